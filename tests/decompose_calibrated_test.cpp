// decompose() with a calibration, against the norm's definition: X itself for the inputs, and a symmetric square root
// from an eigendecomposition for the damped matrix of the gradients.
// SPDX-License-Identifier: MIT
#include <lowrank/decompose_calibrated.hpp>

#include "calibration_inputs.hpp"
#include "catch.hpp"
#include "common.hpp"
#include "forward_reference.hpp"
#include "matrices.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace lowrank;
using namespace lowrank::test_inputs;
using test::Dense;
using test::kCpu;
using test::message;

namespace {

template <class T>
Dense product(const Factors<T>& factors) {
    return test::widened(factors.w1) * test::widened(factors.w2);
}

/// The factors of every rank are as near as any can be in the norm of these roots, and report so.
template <class T>
void check_optimal(const Dense& w, const Calibration& calibration, const Dense& left, const Dense& right) {
    const double ulp = static_cast<double>(std::numeric_limits<T>::epsilon());
    const Dense m = left * w * right;
    const std::int64_t full = std::min(w.rows(), w.cols());
    Eigen::VectorXd s = Eigen::VectorXd::Zero(full);  // fewer tokens than that leave the rest zero
    s.head(std::min(m.rows(), full)) = test::singular_values(m).head(std::min(m.rows(), full));
    for (const std::int64_t rank : {std::int64_t{1}, std::int64_t{7}, full - 1, full}) {
        CAPTURE(rank);
        const auto factors =
            decompose(kCpu, test::rounded<T>(w), calibration, {.rank = fixed_rank(rank), .method = Method::exact});
        REQUIRE(factors.rank() == rank);
        const double error = (left * (w - product(factors)) * right).norm();
        const double best = s.tail(full - rank).norm();
        // Rounding moves M by about n ulp |S_H^T| |W| |S_G|, and its singular values as much (Weyl); W2 = V^T S_G^-1 is
        // off by n ulp cond(S_G), at most 100 sqrt(n) for a damping of 1e-2. Both sit on ||left|| ||W|| ||right||.
        const double allowed =
            100 * ulp * static_cast<double>(w.rows() + w.cols()) * left.norm() * w.norm() * right.norm();
        REQUIRE(error <= best + allowed);
        REQUIRE(std::abs(factors.weighted_error * m.norm() - best) <= allowed);
        REQUIRE(std::abs(factors.weighted_norm - m.norm()) <= allowed);
        const double plain = (w - product(factors)).norm() / w.norm();
        REQUIRE(std::abs(factors.relative_error - plain) <= 100 * ulp * (1 + plain));
        REQUIRE(factors.spectrum.size() >= static_cast<std::size_t>(rank));
        for (std::int64_t i = 0; i < rank; ++i) {
            REQUIRE(std::abs(factors.spectrum[static_cast<std::size_t>(i)] - s(i)) <= allowed);
        }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("The weighted error is the least possible, and is what is reported", "[calibrated]", float, double) {
    for (const auto& [d_in, d_out] : {std::pair{40, 40}, std::pair{70, 30}, std::pair{30, 70}}) {
        const Dense w = test::with_spectrum(d_in, d_out, test::spectrum(test::Spectrum::power_law, 30, 1), 1);
        const Dense x = inputs(200, d_in, 2);
        const Moments h = moments_of(x);
        const Moments g = moments_of(inputs(150, d_out, 3));
        CAPTURE(d_in, d_out);
        check_optimal<TestType>(w, {.input = &h}, scaled(x), Dense::Identity(d_out, d_out));
        check_optimal<TestType>(w, {.gradient = &g}, Dense::Identity(d_in, d_in), root(mean_gram(g), 1e-2));
        check_optimal<TestType>(w, {.input = &h, .gradient = &g}, scaled(x), root(mean_gram(g), 1e-2));
        check_optimal<TestType>(w, {.input = &h, .gradient = &g, .damping = 0.5}, scaled(x), root(mean_gram(g), 0.5));
    }
}

TEMPLATE_TEST_CASE("Statistics of any rank and scale do", "[calibrated]", float, double) {
    const Dense w = test::with_spectrum(40, 33, test::spectrum(test::Spectrum::power_law, 33, 1), 4);
    for (const std::int64_t tokens : {1, 5, 39, 100}) {  // the first three leave H and G singular
        for (const double scale : {1.0, 1e-120, 1e120}) {
            CAPTURE(tokens, scale);
            const Dense x = inputs(tokens, 40, 5);
            const Dense d = inputs(tokens, 33, 6);
            const Moments h = moments_of(x * scale);
            const Moments g = moments_of(d / scale);
            check_optimal<TestType>(w, {.input = &h, .gradient = &g}, scale * scaled(x),
                                    root(mean_gram(moments_of(d)), 1e-2) / scale);
        }
    }
}

// A rounded product is off by a part of its operands' norms. Of a weight that the leading direction of its inputs does
// not see, M is far smaller than those: the errors would drown its singular values, and float's own do not. Without
// rounding, on the portable level, the error is between the least possible and the excess above it.
TEST_CASE("The fast method keeps the excess in the norm of the calibration on every level", "[calibrated]") {
    constexpr std::int64_t kWidth = 200;
    const double unseen = GENERATE(0.0, 1e3, 1e5);
    const std::int64_t rank = GENERATE(2, 24);
    CAPTURE(unseen, rank);
    Dense x = inputs(500, kWidth, 1);
    const Dense d = inputs(400, kWidth + 20, 2);
    Dense w = test::with_spectrum(kWidth, kWidth + 20, test::spectrum(test::Spectrum::power_law, kWidth, 24), 3);
    if (unseen > 0) {
        const Eigen::VectorXd u = Dense(inputs(1, kWidth, 4)).row(0).normalized();
        w -= u * (u.transpose() * w);
        x += unseen * x.leftCols(1) * u.transpose();
    }
    const auto weight = test::rounded<float>(w);
    const Moments x_moments = moments_of(x), d_moments = moments_of(d);
    const Dense left = root(mean_gram(x_moments), 0);
    const Dense right = root(mean_gram(d_moments), 1e-2);
    const auto run = [&](cpu::Isa isa) {
        return decompose(cpu::Context({.isa = isa}), weight, {.input = &x_moments, .gradient = &d_moments},
                         {.rank = fixed_rank(rank), .method = Method::fast});
    };
    const auto error = [&](const Factors<float>& factors) {
        return (left * (test::widened(weight) - product(factors)) * right).norm();
    };
    const double unrounded = error(run(cpu::Isa::portable));
    for (const cpu::Isa isa : test::levels()) {
        CAPTURE(isa_name(isa));
        const auto factors = run(isa);
        CHECK(error(factors) <= (1 + 1e-3) * unrounded);
        CHECK(factors.excess <= 1e-3);
        if (factors.method == Method::exact) CHECK(factors.excess == 0);
    }
}

TEST_CASE("An input that is never there costs nothing to drop", "[calibrated]") {
    Dense x = inputs(100, 20, 7);
    x.col(3).setZero();
    x.col(11).setZero();
    const Moments h = moments_of(x);
    Dense w = test::with_spectrum(20, 12, test::spectrum(test::Spectrum::even, 6, 10), 8);
    const auto expected = decompose(kCpu, test::rounded<double>(w), {.input = &h}, {.rank = fixed_rank(6)});
    CHECK(expected.weighted_error < 1e-12);
    w.row(3).setConstant(1e6);
    w.row(11).setConstant(-1e6);
    const auto factors = decompose(kCpu, test::rounded<double>(w), {.input = &h}, {.rank = fixed_rank(6)});
    CHECK(factors.weighted_error < 1e-12);
    CHECK((x * (w - product(factors))).norm() < 1e-6 * x.norm());
}

TEST_CASE("Statistics that say nothing weigh like the identity", "[calibrated]") {
    const auto w =
        test::rounded<float>(test::with_spectrum(20, 30, test::spectrum(test::Spectrum::geometric, 20, 100), 9));
    const Moments h(20);
    const Moments g(30);
    const auto plain = decompose(kCpu, w, {.rank = fixed_rank(5)});
    for (const Calibration& calibration : {Calibration{}, Calibration{.input = &h, .gradient = &g}}) {
        const auto factors = decompose(kCpu, w, calibration, {.rank = fixed_rank(5)});
        CHECK(factors.relative_error == Approx(plain.relative_error).epsilon(1e-4));
        CHECK(factors.weighted_error == Approx(plain.relative_error).epsilon(1e-4));
    }
    const auto zero = decompose(kCpu, Matrix<float>(20, 30), {.input = &h}, {.rank = fixed_rank(5)});
    CHECK(zero.relative_error == 0);
    CHECK(zero.weighted_error == 0);
    CHECK(product(zero).norm() == 0);
}

TEST_CASE("The layout says how a calibrated weight lies in memory", "[calibrated]") {
    const Dense w = test::with_spectrum(25, 25, test::spectrum(test::Spectrum::power_law, 25, 1), 10);
    const Moments h = moments_of(inputs(60, 25, 11));
    const Moments g = moments_of(inputs(60, 25, 12));
    const Calibration calibration{.input = &h, .gradient = &g};
    const auto in_out = decompose(kCpu, test::rounded<float>(w), calibration, {.rank = fixed_rank(9)});
    const auto out_in = decompose(kCpu, test::rounded<float>(w.transpose()), calibration,
                                  {.rank = fixed_rank(9), .layout = WeightLayout::out_in});
    CHECK(product(in_out) == product(out_in));
}

TEST_CASE("The same calibrated factors for any number of threads", "[calibrated]") {
    const auto w =
        test::rounded<float>(test::with_spectrum(300, 150, test::spectrum(test::Spectrum::power_law, 150, 1), 13));
    const Moments h = moments_of(inputs(400, 300, 14));
    const Moments g = moments_of(inputs(200, 150, 15));
    const cpu::Context serial({.threads = 1});
    const auto one = decompose(serial, w, {.input = &h, .gradient = &g}, {.rank = fixed_rank(20)});
    for (const int threads : {2, 3}) {
        const cpu::Context context({.threads = threads});
        const auto many = decompose(context, w, {.input = &h, .gradient = &g}, {.rank = fixed_rank(20)});
        CHECK(std::memcmp(one.w1.data(), many.w1.data(), one.w1.size() * sizeof(float)) == 0);
        CHECK(std::memcmp(one.w2.data(), many.w2.data(), one.w2.size() * sizeof(float)) == 0);
    }
}

TEST_CASE("A rule applies to the weighted error", "[calibrated]") {
    const auto w =
        test::rounded<float>(test::with_spectrum(40, 30, test::spectrum(test::Spectrum::power_law, 30, 1), 16));
    const Moments h = moments_of(inputs(100, 40, 17));
    const auto factors = decompose(kCpu, w, {.input = &h}, {.rank = relative_error(0.1)});
    CHECK(factors.weighted_error <= 0.1);
    CHECK(decompose(kCpu, w, {.input = &h}, {.rank = fixed_rank(factors.rank() - 1)}).weighted_error > 0.1);
}

TEST_CASE("With its bias corrected a layer keeps its mean output", "[calibrated]") {
    const Dense x = inputs(500, 20, 18);
    const Dense w = test::with_spectrum(20, 15, test::spectrum(test::Spectrum::power_law, 15, 1), 19);
    const Moments seen = moments_of(x);
    const Moments centred = seen.centred();
    CHECK((test::widened(centred.gram()) -
           (x.rowwise() - x.colwise().mean()).transpose() * (x.rowwise() - x.colwise().mean()))
              .norm() < 1e-9 * x.squaredNorm());
    const auto weight = test::rounded<double>(w.transpose());
    const DecomposeOptions options{.rank = fixed_rank(4), .layout = WeightLayout::out_in};
    const auto factors = decompose(kCpu, weight, {.input = &centred}, options);
    const auto change = bias_correction(weight, WeightLayout::out_in, seen.mean(), factors);
    const Eigen::Map<const Eigen::RowVectorXd> bias(change.data(), 15);
    const Dense corrected = x * w - ((x * product(factors)).rowwise() + bias);
    CHECK(corrected.colwise().mean().norm() < 1e-10 * (x * w).norm());
    // No worse than the best without a bias.
    const auto without = decompose(kCpu, weight, {.input = &seen}, options);
    CHECK(corrected.norm() <= (x * (w - product(without))).norm() * (1 + 1e-9));
}

TEST_CASE("A calibration that does not fit is refused by name", "[calibrated]") {
    Matrix<float> w(4, 6);
    const Moments four(4);
    const Moments five(5);
    const DecomposeOptions options{.rank = fixed_rank(2), .name = "layers.3.q_proj"};
    CHECK(message([&] { decompose(kCpu, w, {.input = &five}, options); }) ==
          "layers.3.q_proj, 4 x 6, has 4 inputs, but its statistics are of 5");
    CHECK(message([&] { decompose(kCpu, w, {.gradient = &five}, options); }) ==
          "layers.3.q_proj, 4 x 6, has 6 outputs, but its statistics are of 5");
    const Moments six(6);
    CHECK(message([&] { decompose(kCpu, w, {.gradient = &six, .damping = 0}, options); }).find("above 0") !=
          std::string::npos);
    CHECK(message([&] { decompose(kCpu, w, {.input = &four}, {.rank = fixed_rank(5)}); }) ==
          "a rank of 5 is above min(d_in, d_out) = 4 of a weight of 4 x 6");
    CHECK(message([&] { decompose(kCpu, Matrix<float>(0, 6), {}, options); }) ==
          "layers.3.q_proj, 0 x 6, has nothing to factorise");
    w(2, 5) = std::numeric_limits<float>::quiet_NaN();
    CHECK(message([&] { decompose(kCpu, w, {.input = &four}, options); }) ==
          "layers.3.q_proj, 4 x 6, is not finite at row 2, column 5: a NaN or an infinity cannot be factorised");
    CHECK(message([&] {
              bias_correction(w, WeightLayout::in_out, std::vector<double>(3), Factors<float>{});
          }).find("do not fit a weight of 4 x 6") != std::string::npos);
    CHECK(message([] {
              static_cast<void>(Moments(Matrix<double>(2, 2), {}, 1, "h").centred());
          }).find("cannot be centred") != std::string::npos);
}

TEST_CASE("Moments of batches with a NaN, and sums from nowhere, are refused when they are used", "[calibration]") {
    Matrix<float> x(3, 4);
    x(1, 2) = std::numeric_limits<float>::quiet_NaN();
    Moments moments(4);
    moments.add(kCpu, x);
    CHECK_THROWS_AS(moments.require_valid("x"), ValueError);
    Matrix<float> w(4, 4);
    w(0, 0) = 1;
    CHECK_THROWS_AS(decompose(kCpu, w, Calibration{.input = &moments}, {.rank = fixed_rank(1)}), ValueError);
    Matrix<double> gram(4, 4);
    gram(0, 0) = 1;
    CHECK_THROWS_AS(Moments(gram, {}, 0, "g"), ValueError);
    const Moments good(gram, {}, 1, "g");
    CHECK_THROWS_WITH(decompose(kCpu, w, Calibration{.gradient = &good, .damping = INFINITY}, {.rank = fixed_rank(1)}),
                      Catch::Contains("damping"));
}
