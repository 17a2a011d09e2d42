// The fast method where its products round their operands: weights whose rounding errors are large, or alike.
#include <lowrank/cpu/fast_decompose.hpp>
#include <lowrank/cpu/gram_operator.hpp>
#include <lowrank/cpu/symmetric_operator.hpp>
#include <lowrank/decompose.hpp>
#include <lowrank/subspace_iteration.hpp>

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
constexpr std::int64_t kDesignedRank = 72;  // of a block for which a pass is designed

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
    // What a common part of all inputs and one of all gradients make of a weight.
    Dense common = gaussian(6);
    common.rowwise() += 20 * common.colwise().mean();
    common.colwise() += 20 * common.rowwise().mean();
    all.push_back({"a common part of rows and columns", common});
    return all;
}

double optimum(const Dense& w, std::int64_t rank) {
    const Eigen::VectorXd s = test::singular_values(w);
    return s.tail(s.size() - rank).norm();
}

}  // namespace

// Rounded in units of ||x|| / 32700, a lane x of K elements has an error of at most eps ||x||, eps = sqrt(K) / 65400.
// So with A' what is left of A, that of A'^T A' has the norm (2 eps + eps^2) ||A'||^2, its own rounding and that of q
// add one eps each; in float the three products with V and W, and what forms A', are off by gamma_m of theirs at most.
TEST_CASE("Products without the leading directions keep what their rounding would drown", "[decompose][fast]") {
    const auto count = GENERATE(1, 3);
    Dense a = gaussian(7);
    const Dense rest = a;
    Dense v = Dense::Zero(kOrder, count);
    for (std::int64_t k = 0; k < count; ++k) {
        v(5 * k, k) = 1;
        a.col(5 * k) *= 300;  // nearly an eigenvector of A^T A
    }
    const auto weight = test::rounded<float>(a);
    const Dense q = gaussian(8).topRows(kOrder).leftCols(20).colwise().normalized();
    const Dense stored = test::widened(weight);
    const Dense wanted = stored.transpose() * (stored * test::widened(test::rounded<float>(q)));
    // The same matrix for the backend that has no factors; its own rounding to float counts as float's.
    Dense square = stored.transpose() * stored;
    const auto symmetric = test::rounded<float>(square);
    for (const cpu::Isa isa : test::levels()) {
        if (cpu::rounding_variance<float>(isa) == 0) continue;
        CAPTURE(isa_name(isa), count);
        const cpu::Context context({.threads = 2, .isa = isa});
        const auto check = [&](auto&& gram) {
            const auto worst = [&] {
                Matrix<float> z(kOrder, q.cols());
                gram.apply(1, test::rounded<float>(q), 0, z);
                return (test::widened(z) - wanted).colwise().norm().maxCoeff();
            };
            const double drowned = worst();
            REQUIRE(gram.deflate(test::rounded<float>(v), count));
            const double left = worst();
            const double eps = std::sqrt(static_cast<double>(kOrder + 60)) / 65400;
            const double gamma = static_cast<double>(kOrder + 62) * 0x1p-24;
            CHECK(left <= 4.1 * eps * rest.squaredNorm() + 4 * gamma * stored.squaredNorm());
            CHECK(drowned > 10 * left);
            gram.refine();
            CHECK(worst() <= 2 * gamma * stored.squaredNorm());
        };
        check(cpu::detail::GramOperator<float, float>(context, const_view(weight), 1.0F, 1, kRank, 7));
        check(cpu::detail::SymmetricOperator<float>(context, const_view(symmetric), 1));
    }
}

namespace {

/// Counts what becomes of the rounding.
class RecordedGram : public cpu::detail::GramOperator<float, float> {
public:
    using GramOperator::GramOperator;

    bool deflate(const Block& q, std::int64_t count) {
        deflated = count;
        return GramOperator::deflate(q, count);
    }
    void refine() {
        refined = true;
        GramOperator::refine();
    }
    std::vector<double> ritz_values(const Block& q, const Block& z) {
        std::vector<double> values = GramOperator::ritz_values(q, z);
        if (!(values.back() > 0)) hidden = true;
        return values;
    }

    std::int64_t deflated = 0;
    bool refined = false;
    bool hidden = false;  ///< the edge of the block, once at least
};

}  // namespace

TEST_CASE("As many leading directions as outgrow the others take part unrounded", "[decompose][fast]") {
    constexpr std::int64_t kWanted = 64;
    const auto [outliers, expected] = GENERATE(table<int, int>({{0, 0}, {3, 4}, {10, 16}}));
    Dense w = gaussian(9);
    for (int k = 0; k < outliers; ++k) w.col(7 * k) *= 60;
    const auto weight = test::rounded<float>(w / 60);
    const Dense stored = test::widened(weight);
    for (const cpu::Isa isa : test::levels()) {
        if (cpu::rounding_variance<float>(isa) == 0) continue;
        CAPTURE(isa_name(isa), outliers);
        const cpu::Context context({.isa = isa});
        RecordedGram gram(context, const_view(weight), 1.0F, 1, kWanted, 7);
        const auto problem =
            cpu::detail::subspace_problem<float>(kOrder, kOrder + 60, kWanted, stored.squaredNorm(), 1e-3);
        const auto result = lowrank::detail::SubspaceIteration<RecordedGram>(gram, problem).run();
        CHECK(result.end == lowrank::detail::SubspaceEnd::converged);
        CHECK(gram.deflated == expected);
        CHECK(!gram.refined);
    }
}

// A direction of 4 10^5 times the energy of the block's last one, and in no coordinate's own place: its rounding makes
// the last Ritz values of the usual start negative. For the larger block a pass is designed.
TEST_CASE("A leading direction that hides the edge of the block is taken out", "[decompose][fast]") {
    constexpr std::int64_t kColumns = 1536, kRows = kColumns + 64;
    Dense w = test::widened(test::gaussian<float>(kRows, kColumns, 9));
    for (std::int64_t k = 0; k < kColumns; ++k) w.col(k) /= std::sqrt(static_cast<double>(k + 1));
    w += 3000 * test::widened(test::gaussian<float>(kRows, 1, 10)).normalized() *
         test::widened(test::gaussian<float>(1, kColumns, 11)).normalized();
    const auto weight = test::rounded<float>(w);
    const Dense stored = test::widened(weight);
    const auto wanted = GENERATE(std::int64_t{48}, std::int64_t{64});
    const auto problem = cpu::detail::subspace_problem<float>(kColumns, kRows, wanted, stored.squaredNorm(), 1e-3);
    for (const cpu::Isa isa : test::levels()) {
        if (cpu::rounding_variance<float>(isa) == 0) continue;
        CAPTURE(isa_name(isa), wanted);
        const cpu::Context context({.isa = isa});
        RecordedGram gram(context, const_view(weight), 1.0F, 1, wanted, 100);
        const auto result = lowrank::detail::SubspaceIteration<RecordedGram>(gram, problem).run();
        CHECK(result.end == lowrank::detail::SubspaceEnd::converged);
        CHECK(gram.hidden == (wanted == 48));
        CHECK(gram.deflated > 0);
        CHECK(!gram.refined);
    }
}

TEST_CASE("The excess holds on every level, whatever rounding does to the weight", "[decompose][fast]") {
    double worst = 0;
    for (const Case& one : cases()) {
        const Matrix<float> weight = test::rounded<float>(one.weight);
        const Dense stored = test::widened(weight);
        for (const std::int64_t rank : {kRank, kDesignedRank}) {
            const double best = optimum(stored, rank);
            for (const cpu::Isa isa : test::levels()) {
                const cpu::Context context({.isa = isa});
                for (const double excess : {1e-2, 1e-3}) {
                    CAPTURE(one.name, rank, isa_name(isa), excess);
                    const auto factors = decompose(context, weight, {.rank = fixed_rank(rank), .excess = excess});
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
    }
    WARN("the worst ratio of the true excess to its estimate: " << worst);
    CHECK(worst <= 2);  // what Factors::excess states
}
