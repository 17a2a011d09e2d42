// The fast method where its products round their operands: weights whose rounding errors are large, or alike.
#include <lowrank/decompose.hpp>

#include "catch.hpp"
#include "forward_reference.hpp"
#include "matrices.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using namespace lowrank;
using test::Dense;
using test::error_norm;

namespace {

constexpr std::int64_t kOrder = 320;
constexpr std::int64_t kRank = 40;

struct Case {
    std::string name;
    Dense weight;
};

Dense gaussian(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    return Dense::NullaryExpr(kOrder + 60, kOrder, [&] { return normal(random); });
}

Dense with(double (*value)(double place)) {
    std::vector<double> s;
    for (std::int64_t i = 0; i < kOrder; ++i) s.push_back(value(static_cast<double>(i)));
    return test::with_spectrum(kOrder + 60, kOrder, s, 5);
}

std::vector<Case> cases() {
    std::vector<Case> all;
    // All entries alike: their errors are too, and add up along the leading direction.
    for (const double mean : {0.5, 3.0, 30.0}) {
        all.push_back({"mean " + std::to_string(mean), (gaussian(1).array() + mean).matrix()});
    }
    // Three values with one error: 1 + 2^-8 is halfway between two bf16.
    all.push_back({"ternary", gaussian(2).unaryExpr(
                                  [](double x) { return std::abs(x) < 0.6 ? 0.0 : std::copysign(1 + 0x1p-8, x); })});
    // The diagonal of the Gram matrix is alike.
    const Dense columns = gaussian(3);
    all.push_back({"columns of norm 1", columns * columns.colwise().norm().cwiseInverse().asDiagonal()});
    // Leading directions whose errors drown the others, ever more.
    all.push_back({"5 values of 10", with([](double i) { return (i < 5 ? 10 : 1) * (1 - 0.9 * i / kOrder); })});
    all.push_back({"5 values of 30", with([](double i) { return (i < 5 ? 30 : 1) * (1 - 0.9 * i / kOrder); })});
    all.push_back({"5 values of 300", with([](double i) { return (i < 5 ? 300 : 1) * (1 - 0.9 * i / kOrder); })});
    all.push_back({"a step below the rank", with([](double i) { return i < kRank ? 1.0 : 0.01; })});
    all.push_back({"steps", with([](double i) { return std::pow(2.0, -std::floor(i / 32)); })});
    all.push_back({"power -1/2", with([](double i) { return std::pow(i + 1, -0.5); })});
    all.push_back({"power -1", with([](double i) { return 1 / (i + 1); })});
    all.push_back({"geometric to 1e-6", with([](double i) { return std::pow(1e6, -i / kOrder); })});
    // One column outgrows the others, as outlier features do.
    Dense outlier = gaussian(4);
    outlier.col(7) *= 50;
    all.push_back({"one column of 50", outlier});
    return all;
}

double optimum(const Dense& w) {
    const Eigen::VectorXd s = test::singular_values(w);
    return s.tail(s.size() - kRank).norm();
}

}  // namespace

TEST_CASE("The excess holds on every level, whatever rounding does to the weight", "[decompose][fast]") {
    double worst = 0;
    for (const Case& one : cases()) {
        const Matrix<float> weight = test::rounded<float>(one.weight);
        const Dense stored = test::widened(weight);
        const double best = optimum(stored);
        for (const cpu::Isa isa : test::levels()) {
            const cpu::Context context({.isa = isa});
            for (const double excess : {1e-2, 1e-3}) {
                CAPTURE(one.name, isa_name(isa), excess);
                const auto factors = decompose(context, weight, {.rank = fixed_rank(kRank), .excess = excess});
                // n ulp |W|, LAPACK's unit: what float factors cannot hold.
                const double rounding = static_cast<double>(kOrder) * 0x1p-23 * stored.norm();
                const double error = error_norm(stored, factors);
                CHECK(error <= (1 + excess) * best + rounding);
                CHECK(factors.relative_error * stored.norm() == Approx(error).epsilon(1e-4).margin(rounding));
                const double truth = (error - rounding) / best - 1;
                if (truth > 1e-5) worst = std::max(worst, truth / factors.excess);
            }
        }
    }
    WARN("the worst ratio of the true excess to its estimate: " << worst);
    CHECK(worst <= 2);  // what Factors::excess states
}
