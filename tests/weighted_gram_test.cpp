// The decomposition in a two-sided norm by the shorter side's Gram matrix, against singular values in double of the
// weight between a root from X itself and a symmetric square root.
// SPDX-License-Identifier: MIT
#include <lowrank/decompose_calibrated.hpp>

#include "calibration_inputs.hpp"
#include "catch.hpp"
#include "common.hpp"
#include "forward_reference.hpp"
#include "matrices.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

using namespace lowrank;
using namespace lowrank::test_inputs;
using test::Dense;
using test::kCpu;

namespace {

constexpr double kDamping = 1e-2;

/// Which sides of the weight are weighed.
enum class Sides { both, longer };

/// A weight, its statistics, and the same in double: M = left W right.
struct Problem {
    Dense w;
    bool weigh_input, weigh_gradient;
    Dense left, right, m;
    Moments h, g;

    Problem(const Dense& weight, const Dense& x, const Dense& d, Sides sides = Sides::both)
        : w(weight),
          weigh_input(sides == Sides::both || w.rows() > w.cols()),
          weigh_gradient(sides == Sides::both || w.rows() < w.cols()),
          left(weigh_input ? scaled(x) : Dense(Dense::Identity(w.rows(), w.rows()))),
          right(weigh_gradient ? root(mean_gram(moments_of(d)), kDamping) : Dense(Dense::Identity(w.cols(), w.cols()))),
          m(left * w * right),
          h(moments_of(x)),
          g(moments_of(d)) {}

    [[nodiscard]] Calibration calibration() const {
        return {.input = weigh_input ? &h : nullptr, .gradient = weigh_gradient ? &g : nullptr, .damping = kDamping};
    }
    [[nodiscard]] std::vector<double> singular_values() const {
        const Eigen::VectorXd s = test::singular_values(m);
        return {s.data(), s.data() + s.size()};
    }
};

double tail(const std::vector<double>& s, std::int64_t rank) {
    double sum = 0;
    for (std::size_t i = static_cast<std::size_t>(rank); i < s.size(); ++i) sum += s[i] * s[i];
    return std::sqrt(sum);
}

/// Of what decompose() tries first.
template <class T>
auto by_gram(const Problem& p, const Matrix<T>& stored, const DecomposeOptions& options) {
    cpu::SideWeighting input = p.weigh_input ? cpu::SideWeighting(p.h) : cpu::SideWeighting();
    cpu::SideWeighting gradient = p.weigh_gradient ? cpu::SideWeighting(p.g, kDamping) : cpu::SideWeighting();
    return cpu::detail::factors_by_weighted_gram(
        kCpu, const_view(stored), cpu::weight_scale(kCpu, const_view(stored), "w"), {input, gradient}, options);
}

}  // namespace

TEMPLATE_TEST_CASE("The shorter side's Gram matrix serves either side and layout", "[weighted_gram]", float, double,
                   bf16) {
    using C = compute_t<TestType>;
    const double ulp = static_cast<double>(std::numeric_limits<C>::epsilon());
    double worst = 0;
    for (const auto& [d_in, d_out, sides, exponent] :
         {std::tuple{100, 300, Sides::both, 0}, std::tuple{300, 100, Sides::both, 0},
          std::tuple{128, 192, Sides::both, 0}, std::tuple{100, 300, Sides::longer, 30},
          std::tuple{300, 100, Sides::longer, -30}, std::tuple{300, 100, Sides::both, 30},
          std::tuple{100, 300, Sides::both, -30}}) {
        const std::int64_t full = std::min(d_in, d_out);
        for (const test::Spectrum kind : {test::Spectrum::flat, test::Spectrum::power_law, test::Spectrum::clustered}) {
            const auto exact = test::rounded<TestType>(
                test::with_spectrum(d_in, d_out, test::spectrum(kind, full, 100), static_cast<unsigned>(d_in)),
                std::ldexp(1.0, exponent));
            const Problem p(test::widened(exact), inputs(500, d_in, 21, 30, 10), inputs(400, d_out, 22, 30, 10), sides);
            const std::vector<double> s = p.singular_values();
            for (const std::int64_t rank : {1, 10, 40}) {
                for (const WeightLayout layout : {WeightLayout::in_out, WeightLayout::out_in}) {
                    CAPTURE(d_in, d_out, static_cast<int>(sides), exponent, static_cast<int>(kind), rank,
                            static_cast<int>(layout));
                    const DecomposeOptions options{.rank = fixed_rank(rank), .layout = layout, .method = Method::fast};
                    const auto stored =
                        layout == WeightLayout::in_out ? exact : test::rounded<TestType>(p.w.transpose());
                    const auto factors = decompose(kCpu, stored, p.calibration(), options);
                    const double best = tail(s, rank);
                    if (best > 0.05 * p.m.norm()) {
                        REQUIRE(by_gram(p, stored, options));
                        REQUIRE(factors.method == Method::fast);
                    }
                    const Dense rest = p.w - test::widened(factors.w1) * test::widened(factors.w2);
                    const double error = (p.left * rest * p.right).norm();
                    REQUIRE(error <= (1 + options.excess) * best);
                    if (error > (1 + 1e-5) * best) worst = std::max(worst, (error / best - 1) / factors.excess);
                    // Rounding moves ||M||^2, and the part of it that is captured, by the errors of products of
                    // 3 (d_in + d_out) terms, which add up as their root (Higham, Mary 2019).
                    const double norms = p.left.norm() * p.w.norm() * p.right.norm();
                    const double allowed = 4 * ulp * std::sqrt(3.0 * (d_in + d_out)) * norms * norms;
                    REQUIRE(std::abs(std::pow(factors.weighted_error * p.m.norm(), 2) - error * error) <= allowed);
                    REQUIRE(std::abs(std::pow(factors.weighted_norm, 2) - p.m.squaredNorm()) <= allowed);
                    REQUIRE(std::abs(factors.relative_error - rest.norm() / p.w.norm()) <=
                            100 * ulp * (1 + rest.norm() / p.w.norm()));
                    REQUIRE(factors.spectrum.size() == static_cast<std::size_t>(rank));
                    // No Ritz value is above its eigenvalue, and what all lack together is the shortfall.
                    double lacking = 0;
                    for (std::size_t i = 0; i < factors.spectrum.size(); ++i) {
                        const double lacks = s[i] * s[i] - factors.spectrum[i] * factors.spectrum[i];
                        REQUIRE(lacks >= -allowed);
                        lacking += lacks;
                    }
                    REQUIRE(lacking <= 2.1 * options.excess * best * best + allowed);
                }
            }
        }
    }
    WARN("the worst ratio of the true excess to its estimate: " << worst);
    CHECK(worst <= 2);  // what Factors::excess states
}

TEST_CASE("Factors by the weighted Gram matrix fit into half precision", "[weighted_gram]") {
    for (const auto& [d_in, d_out] : {std::pair{100, 300}, std::pair{300, 100}}) {
        CAPTURE(d_in, d_out);
        // Of an outlier in the inputs most of the other inputs' sums are 1e-6.
        const auto exact =
            test::rounded<f16>(test::with_spectrum(d_in, d_out, test::spectrum(test::Spectrum::flat, 100, 1), 35));
        const Problem p(test::widened(exact), inputs(500, d_in, 36, 5, 1e3), inputs(400, d_out, 37, 5, 3));
        const DecomposeOptions options{.rank = fixed_rank(10), .method = Method::fast};
        const auto factors = decompose(kCpu, exact, p.calibration(), options);
        const Dense w1 = test::widened(test::rounded<f16>(test::widened(factors.w1)));
        const Dense w2 = test::widened(test::rounded<f16>(test::widened(factors.w2)));
        const Dense change = w1 * w2 - test::widened(factors.w1) * test::widened(factors.w2);
        // Entries of either factor are off by 2^-11 of themselves at most, unless they are subnormal.
        CHECK(change.norm() <= std::ldexp(1.01, -10) * (w1.cwiseAbs() * w2.cwiseAbs()).norm());
    }
}

TEST_CASE("Statistics of any rank and scale do for the Gram matrix", "[weighted_gram]") {
    const Dense w = test::with_spectrum(70, 180, test::spectrum(test::Spectrum::power_law, 70, 1), 23);
    const DecomposeOptions options{.rank = fixed_rank(12), .method = Method::fast};
    for (const std::int64_t tokens : {30, 69, 1000}) {  // the first two leave H singular, and all G without its damping
        for (const double scale : {1.0, 1e-120, 1e120}) {
            CAPTURE(tokens, scale);
            const Dense x = inputs(tokens, 70, 24);
            const Dense d = inputs(60, 180, 25);
            const Problem p(w, x, d);
            const Moments h = moments_of(x * scale);
            const Moments g = moments_of(d / scale);
            const auto factors =
                decompose(kCpu, test::rounded<float>(w), {.input = &h, .gradient = &g, .damping = kDamping}, options);
            const Dense rest = w - test::widened(factors.w1) * test::widened(factors.w2);
            REQUIRE((p.left * rest * p.right).norm() <= (1 + options.excess) * tail(p.singular_values(), 12));
        }
    }
}

TEST_CASE("The error of the weighted Gram matrix is measured", "[weighted_gram]") {
    for (const double outlier : {1.0, 1e3}) {
        Dense x = inputs(400, 90, 26);
        x.col(5) *= outlier;
        const Dense d = inputs(300, 250, 27);
        const Dense w = test::widened(
            test::rounded<float>(test::with_spectrum(90, 250, test::spectrum(test::Spectrum::power_law, 90, 1), 28)));
        const Moments h = moments_of(x);
        const Moments g = moments_of(d);
        const auto stored = test::rounded<float>(w);
        cpu::SideWeighting input(h);
        const cpu::SideWeighting gradient(g, kDamping);
        const cpu::detail::RootIn<float> side(kCpu, input.root(kCpu), 90);
        const cpu::detail::LongSide<float> longer(kCpu, stored.view(), 0, gradient);
        const cpu::detail::WeightedGram<float> gram(kCpu, longer, side, cpu::Operands::exact);
        // The same matrix from the same root, in double.
        Dense s(90, 90);
        for (std::int64_t i = 0; i < 90; ++i) {
            for (std::int64_t j = 0; j < 90; ++j) s(side.place(i), j) = input.root(kCpu)->lower(i, j);
        }
        const Dense n = mean_gram(g) + kDamping * mean_gram(g).diagonal().mean() * Dense::Identity(250, 250);
        const double power = std::ldexp(1.0, 2 * (gram.exponent() - side.exponent()));
        const Dense k = s.transpose() * w * n * w.transpose() * s / power;
        const double truth = (test::widened(gram.matrix()) - k).norm() / 90;
        const double measured = std::sqrt(gram.entry_error(1));
        CAPTURE(outlier, truth, measured, k.norm());
        // The mean of two samples of ||E v||^2, each of which has at least the variance of a squared normal number.
        CHECK(measured <= 4 * truth);
        CHECK(measured >= truth / 10);
        CHECK(truth <= std::numeric_limits<float>::epsilon() * k.norm());
    }
}

// An element of a rounded product is a sum over lanes a and b of which each element is off by sqrt(c) times the lane's
// norm: the errors' norm is sqrt(2 c) |A| |L| for A L, and as much again, times |A|_2, for (A L) A^T; Y + Y^T are two.
// L is less than N without the span of eight images of random vectors, which has the leading four eigenvectors' part
// and more: its norm is sqrt(1 + 4 / 3) that of the other eigenvalues (Halko, Martinsson, Tropp 2011, theorem 10.5).
TEST_CASE("What the longer side's leading directions hold is not rounded", "[weighted_gram]") {
    constexpr std::int64_t kShort = 96, kLong = 300;
    const auto stored =
        test::rounded<float>(test::with_spectrum(kShort, kLong, test::spectrum(test::Spectrum::flat, kShort, 1), 41));
    const Dense w = test::widened(stored);
    const Dense d = inputs(600, kLong, 42);
    const Dense mean = Dense(inputs(1, kLong, 43)).row(0).normalized();
    for (const double size : {0.0, 1.0, 1e3, 1e5}) {
        const Dense with_mean = d + size * Dense(inputs(600, 1, 44)) * mean;
        const Moments g = moments_of(with_mean);
        const cpu::SideWeighting gradient(g);
        const Dense n = mean_gram(g);
        const Dense p = w * n * w.transpose();
        const double rest = test::singular_values(n).tail(kLong - 4).norm() * std::sqrt(1 + 4.0 / 3);
        for (const cpu::Isa isa : test::levels()) {
            const cpu::Context context({.isa = isa});
            const double variance = cpu::rounding_variance<float>(isa);
            if (variance == 0) continue;
            const cpu::detail::LongSide<float> side(context, stored.view(), 0, gradient);
            const Dense rounded =
                std::ldexp(1.0, 2 * side.exponent()) * test::widened(side.product(cpu::Operands::rounded));
            const double error = (rounded - p).norm();
            const double ulp = static_cast<double>(std::numeric_limits<float>::epsilon());
            const double c = variance / (2 * cpu::detail::kBlockSteps);
            const double allowed = 4 * std::sqrt(2 * c) * test::singular_values(w)(0) * w.norm() * rest +
                                   std::sqrt(double{kLong}) * ulp * p.norm();
            CAPTURE(size, cpu::isa_name(isa), error / p.norm(), allowed / p.norm());
            CHECK(error <= allowed);
            CHECK(rounded == rounded.transpose());
        }
    }
}

TEST_CASE("Factors come from rounded products unless these cost too much of the excess", "[weighted_gram]") {
    const auto stored =
        test::rounded<float>(test::with_spectrum(160, 320, test::spectrum(test::Spectrum::power_law, 160, 1), 45));
    const Problem p(test::widened(stored), inputs(500, 160, 46, 5, 3), inputs(500, 320, 47, 5, 3));
    const DecomposeOptions options{.rank = fixed_rank(24), .method = Method::fast};
    cpu::SideWeighting input(p.h);
    const cpu::SideWeighting gradient(p.g, kDamping);
    for (const cpu::Isa isa : test::levels()) {
        if (cpu::rounding_variance<float>(isa) == 0) continue;
        CAPTURE(cpu::isa_name(isa));
        const cpu::Context context({.isa = isa});
        const cpu::detail::RootIn<float> root(context, input.root(context), 160);
        const cpu::detail::LongSide<float> longer(context, stored.view(), 0, gradient);
        const auto excess = [&](cpu::Operands operands, double most_lost) {
            const cpu::detail::WeightedGram<float> gram(context, longer, root, operands);
            const auto factors = cpu::detail::factors_by_eigenvectors(context, gram, true, most_lost, options);
            return factors ? factors->excess : std::numeric_limits<double>::infinity();
        };
        CHECK(excess(cpu::Operands::rounded, cpu::detail::kProductRoundingPart) <= options.excess);
        CHECK(excess(cpu::Operands::exact, 1) <= options.excess);
        // Eight directions out, rounded operands are off by more than a few ulp of float.
        CHECK_FALSE(excess(cpu::Operands::rounded, 1e-9) <= options.excess);
    }
}

TEST_CASE("Where rounding hides the tail from the Gram matrix the roots serve", "[weighted_gram]") {
    const auto exact =
        test::rounded<float>(test::with_spectrum(100, 300, test::spectrum(test::Spectrum::geometric, 100, 1e6), 29));
    const Problem p(test::widened(exact), inputs(500, 100, 30), inputs(400, 300, 31));
    const DecomposeOptions options{.rank = fixed_rank(40)};
    CHECK_FALSE(by_gram(p, exact, options));
    const auto factors = decompose(kCpu, exact, p.calibration(), options);
    const Dense rest = p.w - test::widened(factors.w1) * test::widened(factors.w2);
    // As for the exact method: rounding is what there is of the error.
    const double ulp = static_cast<double>(std::numeric_limits<float>::epsilon());
    CHECK((p.left * rest * p.right).norm() <= (1 + options.excess) * tail(p.singular_values(), 40) +
                                                  100 * ulp * 400 * p.left.norm() * p.w.norm() * p.right.norm());
}

TEST_CASE("A rule finds its rank by the weighted Gram matrix", "[weighted_gram]") {
    const auto exact =
        test::rounded<float>(test::with_spectrum(100, 300, test::spectrum(test::Spectrum::power_law, 100, 1), 32));
    const Problem p(test::widened(exact), inputs(500, 100, 33, 5, 3), inputs(400, 300, 34, 5, 3));
    const std::vector<double> s = p.singular_values();
    for (const double error : {0.5, 0.2}) {
        CAPTURE(error);
        const DecomposeOptions options{.rank = relative_error(error), .method = Method::fast};
        REQUIRE(by_gram(p, exact, options));
        const auto factors = decompose(kCpu, exact, p.calibration(), options);
        CHECK(factors.weighted_error <= error);
        CHECK(tail(s, factors.rank()) <= error * p.m.norm());
        // The least rank, but for what the excess may cost.
        CHECK(tail(s, factors.rank() - 1) * (1 + options.excess) > error * p.m.norm());
    }
}
