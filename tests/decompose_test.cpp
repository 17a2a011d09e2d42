#include <lowrank/decompose.hpp>
#include <lowrank/low_rank_linear.hpp>

#include "catch.hpp"
#include "common.hpp"
#include "matrices.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

using namespace lowrank;
using test::Dense;
using test::kCpu;
using test::message;

namespace {

template <class T>
Dense product(const Factors<T>& factors) {
    return test::widened(factors.w1) * test::widened(factors.w2);
}

}  // namespace

TEMPLATE_TEST_CASE("The error is the least possible, and is what is reported", "[decompose]", float, double) {
    const double ulp = static_cast<double>(std::numeric_limits<TestType>::epsilon());
    for (const auto& [d_in, d_out] : {std::pair{60, 60}, std::pair{90, 40}, std::pair{40, 90}}) {
        for (const auto kind : test::kSpectra) {
            const std::vector<double> s = test::spectrum(kind, 40, 1e3);
            const Dense w = test::with_spectrum(d_in, d_out, s, 1);
            double last = 2;
            for (const int rank : {1, 7, 20, 39, 40}) {
                CAPTURE(d_in, d_out, static_cast<int>(kind), rank);
                const auto factors =
                    decompose(kCpu, test::rounded<TestType>(w), {.rank = fixed_rank(rank), .method = Method::exact});
                const double norm = w.norm();
                const double error = (w - product(factors)).norm() / norm;
                const double best = Eigen::Map<const Eigen::VectorXd>(s.data(), 40).tail(40 - rank).norm() / norm;
                // Rounding moves any singular value by at most about n ulp |W| (Weyl; LAPACK's constant 10 of the
                // ratios).
                const double allowed = 10 * 90 * ulp;
                REQUIRE(error <= best + allowed);
                REQUIRE(std::abs(error - factors.relative_error) <= allowed);
                REQUIRE(factors.relative_error <= last);
                last = factors.relative_error;
                REQUIRE(factors.rank() == rank);
                REQUIRE(factors.parameters() == rank * (d_in + d_out));
                REQUIRE(factors.method == Method::exact);
            }
        }
    }
}

TEST_CASE("W1 is orthonormal and W2 carries the singular values", "[decompose]") {
    const Dense w = test::with_spectrum(50, 30, test::spectrum(test::Spectrum::power_law, 30, 1), 2);
    const auto factors = decompose(kCpu, test::rounded<float>(w), {.rank = fixed_rank(12), .method = Method::exact});
    const Dense w1 = test::widened(factors.w1);
    const Dense w2 = test::widened(factors.w2);
    CHECK((w1.transpose() * w1 - Dense::Identity(12, 12)).norm() < 1e-5);
    for (int i = 0; i < 12; ++i) {
        CHECK(w2.row(i).norm() ==
              Approx(static_cast<double>(factors.singular_values[static_cast<std::size_t>(i)])).epsilon(1e-5));
        CHECK(w2.row(i).norm() == Approx(1 / std::sqrt(i + 1.0)).epsilon(1e-5));
    }
}

TEST_CASE("The layout says how the same weight lies in memory", "[decompose]") {
    const Dense w = test::with_spectrum(33, 33, test::spectrum(test::Spectrum::geometric, 33, 1e4), 4);
    const auto in_out = decompose(kCpu, test::rounded<float>(w), {.rank = fixed_rank(9)});
    const auto out_in =
        decompose(kCpu, test::rounded<float>(w.transpose()), {.rank = fixed_rank(9), .layout = WeightLayout::out_in});
    CHECK(out_in.d_in() == 33);
    CHECK((product(in_out) - product(out_in)).norm() < 1e-4 * w.norm());
    CHECK((product(in_out) - w).norm() == Approx(in_out.relative_error * w.norm()).epsilon(1e-3));
}

TEST_CASE("Scaling by a power of two scales the factors exactly", "[decompose]") {
    const Dense w = test::with_spectrum(24, 36, test::spectrum(test::Spectrum::even, 24, 100), 6);
    const auto base = decompose(kCpu, test::rounded<float>(w), {.rank = fixed_rank(10)});
    for (const int exponent : {-60, -1, 3, 90}) {
        const double scale = std::ldexp(1.0, exponent);
        const auto scaled = decompose(kCpu, test::rounded<float>(w, scale), {.rank = fixed_rank(10)});
        CHECK(std::memcmp(base.w1.data(), scaled.w1.data(), base.w1.size() * sizeof(float)) == 0);
        CHECK(test::widened(scaled.w2) == test::widened(base.w2, scale));
        CHECK(scaled.relative_error == base.relative_error);
    }
}

TEST_CASE("Half types compute in float", "[decompose]") {
    const Dense w = test::with_spectrum(40, 30, test::spectrum(test::Spectrum::power_law, 30, 1), 8);
    const auto half = test::rounded<bf16>(w);
    const auto factors = decompose(kCpu, half, {.rank = fixed_rank(30)});
    STATIC_REQUIRE(std::is_same_v<decltype(factors), const Factors<float>>);
    CHECK((product(factors) - test::widened(half)).norm() < 1e-5 * w.norm());
    CHECK(decompose(kCpu, test::rounded<f16>(w), {.rank = fixed_rank(3)}).rank() == 3);
}

TEST_CASE("A strided view is read by its leading dimension and left as it was", "[decompose]") {
    const Dense w = test::with_spectrum(20, 12, test::spectrum(test::Spectrum::even, 12, 10), 9);
    Matrix<float> padded(20, 17);
    std::fill_n(padded.data(), padded.size(), std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t i = 0; i < 20; ++i) {
        for (std::int64_t j = 0; j < 12; ++j) padded(i, j) = static_cast<float>(w(i, j));
    }
    const Matrix<float> before = padded;
    const auto factors = decompose(kCpu, padded.view().block(0, 0, 20, 12), {.rank = fixed_rank(12)});
    CHECK((product(factors) - w).norm() < 1e-5 * w.norm());
    CHECK(std::memcmp(before.data(), padded.data(), padded.size() * sizeof(float)) == 0);
}

TEST_CASE("Rules of energy, error and share choose the rank", "[decompose]") {
    const std::vector<double> s = test::spectrum(test::Spectrum::geometric, 40, 1e4);
    const Matrix<float> w = test::rounded<float>(test::with_spectrum(40, 80, s, 10));
    const auto by_error = decompose(kCpu, w, {.rank = relative_error(0.05)});
    CHECK(by_error.relative_error <= 0.05);
    CHECK(decompose(kCpu, w, {.rank = fixed_rank(by_error.rank() - 1)}).relative_error > 0.05);
    const auto by_energy = decompose(kCpu, w, {.rank = energy_kept(0.9)});
    CHECK(1 - by_energy.relative_error * by_energy.relative_error >= 0.9);
    const auto by_share = decompose(kCpu, w, {.rank = parameter_share(0.4)});
    CHECK(by_share.parameters() <= 1280);  // 0.4 x 40 x 80; one rank more would be above
    CHECK(by_share.parameters() + 120 > 1280);
}

TEST_CASE("Zero, one-row, one-column and 1 x 1 weights have factors", "[decompose]") {
    const auto zero = decompose(kCpu, Matrix<float>(5, 4), {.rank = fixed_rank(2)});
    CHECK(zero.relative_error == 0);
    CHECK(product(zero).norm() == 0);
    for (const auto& [rows, cols] : {std::pair{1, 1}, std::pair{1, 9}, std::pair{9, 1}}) {
        const Dense w = Dense::Constant(rows, cols, -3);
        const auto factors = decompose(kCpu, test::rounded<double>(w), {.rank = fixed_rank(1)});
        CHECK((product(factors) - w).norm() < 1e-14 * w.norm());
    }
}

TEST_CASE("The same factors for any number of threads", "[decompose]") {
    const auto w =
        test::rounded<float>(test::with_spectrum(300, 400, test::spectrum(test::Spectrum::power_law, 300, 1), 12));
    for (const Method method : {Method::exact, Method::automatic}) {
        const cpu::Context serial({.threads = 1});
        const auto one = decompose(serial, w, {.rank = fixed_rank(20), .method = method});
        for (const int threads : {2, 3}) {
            const cpu::Context context({.threads = threads});
            const auto many = decompose(context, w, {.rank = fixed_rank(20), .method = method});
            CHECK(std::memcmp(one.w1.data(), many.w1.data(), one.w1.size() * sizeof(float)) == 0);
            CHECK(std::memcmp(one.w2.data(), many.w2.data(), one.w2.size() * sizeof(float)) == 0);
        }
    }
}

TEST_CASE("Bad input is refused by name", "[decompose]") {
    Matrix<float> w(4, 6);
    const DecomposeOptions options{.rank = fixed_rank(2), .name = "layers.3.q_proj"};
    CHECK(message([&] { decompose(kCpu, w, {.rank = fixed_rank(5)}); }) ==
          "a rank of 5 is above min(d_in, d_out) = 4 of a weight of 4 x 6");
    CHECK(message([&] { decompose(kCpu, Matrix<float>(0, 6), options); }) ==
          "layers.3.q_proj, 0 x 6, has nothing to factorise");
    w(2, 5) = std::numeric_limits<float>::infinity();
    CHECK(message([&] { decompose(kCpu, w, options); }) ==
          "layers.3.q_proj, 4 x 6, is not finite at row 2, column 5: a NaN or an infinity cannot be factorised");
    w(0, 1) = std::numeric_limits<float>::quiet_NaN();
    CHECK(message([&] { decompose(kCpu, w, options); }).find("row 0, column 1") != std::string::npos);
    std::fill_n(w.data(), w.size(), std::numeric_limits<float>::max());
    CHECK(message([&] { decompose(kCpu, w, options); }).find("overflow") != std::string::npos);
}

TEST_CASE("A layer is made straight from a weight", "[decompose]") {
    const Dense w = test::with_spectrum(16, 24, test::spectrum(test::Spectrum::geometric, 16, 1e6), 13);
    const LowRankLinear<float> layer(kCpu, test::rounded<float>(w.transpose()),
                                     {.rank = fixed_rank(16), .layout = WeightLayout::out_in},
                                     std::vector<float>(24, 1.0F));
    Matrix<float> x(3, 16);
    for (std::int64_t i = 0; i < 3; ++i) x(i, i) = 1;
    const Dense y = test::widened(layer.forward(kCpu, x));
    CHECK((y - (w.topRows(3).array() + 1).matrix()).cwiseAbs().maxCoeff() < 1e-5);
}
