// The contract of decompose(), for any backend. A Backend has `decompose(matrix or view, options)`, which takes a
// weight in host memory to where it computes and brings the factors back.
#pragma once

#include "backend.hpp"
#include "catch.hpp"
#include "common.hpp"
#include "matrices.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace contract {

using lowrank::bf16;
using lowrank::DecomposeOptions;
using lowrank::Factors;
using lowrank::fixed_rank;
using lowrank::Matrix;
using lowrank::Method;
using lowrank::WeightLayout;
using test::Dense;

template <class T>
Dense product(const Factors<T>& factors) {
    return test::widened(factors.w1) * test::widened(factors.w2);
}

/// The exact method's error is the least possible, and is what is reported, for every spectrum, shape and rank.
template <class Backend, class T>
void exact_error_is_the_least_possible() {
    Backend backend;
    const double ulp = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (const auto& [d_in, d_out] : {std::pair{60, 60}, std::pair{90, 40}, std::pair{40, 90}}) {
        for (const auto kind : test::kSpectra) {
            const std::vector<double> s = test::spectrum(kind, 40, 1e3);
            const Dense w = test::with_spectrum(d_in, d_out, s, 1);
            double last = 2;
            for (const int rank : {1, 20, 39, 40}) {
                CAPTURE(d_in, d_out, static_cast<int>(kind), rank);
                const auto factors =
                    backend.decompose(test::rounded<T>(w), {.rank = fixed_rank(rank), .method = Method::exact});
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
                REQUIRE(factors.method == Method::exact);
            }
        }
    }
}

template <class Backend>
void w1_is_orthonormal_and_w2_carries_the_singular_values() {
    Backend backend;
    for (const auto layout : {WeightLayout::in_out, WeightLayout::out_in}) {
        for (const auto& [rows, cols] : {std::pair{50, 30}, std::pair{30, 50}}) {
            const Dense w = test::with_spectrum(rows, cols, test::spectrum(test::Spectrum::power_law, 30, 1), 2);
            const auto factors = backend.decompose(test::rounded<float>(w),
                                                   {.rank = fixed_rank(12), .layout = layout, .method = Method::exact});
            const Dense w1 = test::widened(factors.w1);
            const Dense w2 = test::widened(factors.w2);
            CHECK((w1.transpose() * w1 - Dense::Identity(12, 12)).norm() < 1e-5);
            REQUIRE(factors.singular_values.size() >= 12);
            for (int i = 0; i < 12; ++i) {
                CHECK(w2.row(i).norm() ==
                      Approx(static_cast<double>(factors.singular_values[static_cast<std::size_t>(i)])).epsilon(1e-5));
                CHECK(w2.row(i).norm() == Approx(1 / std::sqrt(i + 1.0)).epsilon(1e-5));
            }
        }
    }
}

template <class Backend>
void the_layout_says_how_the_weight_lies() {
    Backend backend;
    const Dense w = test::with_spectrum(33, 33, test::spectrum(test::Spectrum::geometric, 33, 1e4), 4);
    const auto in_out = backend.decompose(test::rounded<float>(w), {.rank = fixed_rank(9), .method = Method::exact});
    const auto out_in =
        backend.decompose(test::rounded<float>(w.transpose()),
                          {.rank = fixed_rank(9), .layout = WeightLayout::out_in, .method = Method::exact});
    CHECK(out_in.d_in() == 33);
    CHECK((product(in_out) - product(out_in)).norm() < 1e-4 * w.norm());
    CHECK((product(in_out) - w).norm() == Approx(in_out.relative_error * w.norm()).epsilon(1e-3));
}

template <class Backend>
void scaling_by_a_power_of_two_scales_the_factors_exactly() {
    Backend backend;
    const Dense w = test::with_spectrum(24, 36, test::spectrum(test::Spectrum::even, 24, 100), 6);
    const auto base = backend.decompose(test::rounded<float>(w), {.rank = fixed_rank(10)});
    for (const int exponent : {-60, -1, 3, 120}) {
        const double scale = std::ldexp(1.0, exponent);
        const auto scaled = backend.decompose(test::rounded<float>(w, scale), {.rank = fixed_rank(10)});
        CHECK(std::memcmp(base.w1.data(), scaled.w1.data(), base.w1.size() * sizeof(float)) == 0);
        CHECK(test::widened(scaled.w2) == test::widened(base.w2, scale));
        CHECK(scaled.relative_error == base.relative_error);
    }
}

template <class Backend>
void half_types_compute_in_float() {
    Backend backend;
    for (const auto& [rows, cols] : {std::pair{40, 30}, std::pair{30, 300}, std::pair{300, 30}}) {
        const Dense w = test::with_spectrum(rows, cols, test::spectrum(test::Spectrum::power_law, 30, 1), 8);
        const auto half = test::rounded<bf16>(w);
        const auto factors = backend.decompose(half, {.rank = fixed_rank(30), .method = Method::exact});
        STATIC_REQUIRE(std::is_same_v<decltype(factors), const Factors<float>>);
        CHECK((product(factors) - test::widened(half)).norm() < 2e-5 * w.norm());
        const auto f16_weight = test::rounded<lowrank::f16>(w);
        const auto f16_factors = backend.decompose(f16_weight, {.rank = fixed_rank(30), .method = Method::exact});
        CHECK((product(f16_factors) - test::widened(f16_weight)).norm() < 2e-5 * w.norm());
    }
}

template <class Backend>
void rules_choose_the_rank() {
    Backend backend;
    const std::vector<double> s = test::spectrum(test::Spectrum::geometric, 40, 1e4);
    const Matrix<float> w = test::rounded<float>(test::with_spectrum(40, 80, s, 10));
    const auto by_error = backend.decompose(w, {.rank = lowrank::relative_error(0.05)});
    CHECK(by_error.relative_error <= 0.05);
    CHECK(backend.decompose(w, {.rank = fixed_rank(by_error.rank() - 1)}).relative_error > 0.05);
    const auto by_energy = backend.decompose(w, {.rank = lowrank::energy_kept(0.9)});
    CHECK(1 - by_energy.relative_error * by_energy.relative_error >= 0.9);
    const auto by_share = backend.decompose(w, {.rank = lowrank::parameter_share(0.4)});
    CHECK(by_share.parameters() <= 1280);  // 0.4 x 40 x 80; one rank more would be above
    CHECK(by_share.parameters() + 120 > 1280);
}

template <class Backend>
void degenerate_weights_have_factors() {
    Backend backend;
    const auto zero = backend.decompose(Matrix<float>(5, 4), {.rank = fixed_rank(2)});
    CHECK(zero.relative_error == 0);
    CHECK(product(zero).norm() == 0);
    for (const auto& [rows, cols] : {std::pair{1, 1}, std::pair{1, 9}, std::pair{9, 1}}) {
        const Dense w = Dense::Constant(rows, cols, -3);
        const auto factors = backend.decompose(test::rounded<double>(w), {.rank = fixed_rank(1)});
        CHECK((product(factors) - w).norm() < 1e-14 * w.norm());
    }
}

/// The fast method keeps its word: an error within (1 + excess) of the optimum, and what it reports is so.
template <class Backend, class T>
void fast_error_is_within_the_excess() {
    Backend backend;
    const double ulp = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (const auto& [d_in, d_out] : {std::pair{160, 160}, std::pair{220, 140}, std::pair{140, 220}}) {
        for (const auto kind : test::kSpectra) {
            const std::vector<double> s = test::spectrum(kind, 140, 1e3);
            const Dense w = test::with_spectrum(d_in, d_out, s, 1);
            for (const auto layout : {WeightLayout::in_out, WeightLayout::out_in}) {
                CAPTURE(d_in, d_out, static_cast<int>(kind), static_cast<int>(layout));
                const bool in_out = layout == WeightLayout::in_out;
                const auto factors = backend.decompose(
                    test::rounded<T>(in_out ? w : Dense(w.transpose())),
                    {.rank = fixed_rank(24), .layout = layout, .method = Method::fast, .excess = 1e-3});
                const double norm = w.norm();
                const double error = (w - product(factors)).norm() / norm;
                const double best = Eigen::Map<const Eigen::VectorXd>(s.data(), 140).tail(140 - 24).norm() / norm;
                const double allowed = 10 * 220 * ulp;
                REQUIRE(error <= best * (1 + 1e-3) + allowed);
                REQUIRE(std::abs(error - factors.relative_error) <= allowed);
                const Dense w1 = test::widened(factors.w1);
                REQUIRE((w1.transpose() * w1 - Dense::Identity(24, 24)).norm() <= 24 * allowed);
                REQUIRE(std::is_sorted(factors.singular_values.rbegin(), factors.singular_values.rend()));
            }
        }
    }
}

/// A weight whose rank is at most the rank asked for comes back whole, by whichever method.
template <class Backend>
void a_low_rank_weight_is_recovered() {
    Backend backend;
    const Dense w = test::with_spectrum(200, 150, std::vector<double>(10, 1), 3);
    const auto factors = backend.decompose(test::rounded<float>(w), {.rank = fixed_rank(12), .method = Method::fast});
    CHECK((w - product(factors)).norm() < 1e-5 * w.norm());
}

template <class Backend>
void bad_input_is_refused_by_name() {
    Backend backend;
    Matrix<float> w(4, 6);
    const DecomposeOptions options{.rank = fixed_rank(2), .name = "layers.3.q_proj"};
    CHECK(test::message([&] { backend.decompose(w, {.rank = fixed_rank(5)}); }) ==
          "a rank of 5 is above min(d_in, d_out) = 4 of a weight of 4 x 6");
    CHECK(test::message([&] { backend.decompose(Matrix<float>(0, 6), options); }) ==
          "layers.3.q_proj, 0 x 6, has nothing to factorise");
    w(2, 5) = std::numeric_limits<float>::infinity();
    CHECK(test::message([&] { backend.decompose(w, options); }) ==
          "layers.3.q_proj, 4 x 6, is not finite at row 2, column 5: a NaN or an infinity cannot be factorised");
    w(0, 1) = std::numeric_limits<float>::quiet_NaN();
    CHECK(test::message([&] { backend.decompose(w, options); }).find("row 0, column 1") != std::string::npos);
    Matrix<bf16> half(3, 300);
    half(1, 299) = bf16(-std::numeric_limits<float>::infinity());
    CHECK(test::message([&] { backend.decompose(half, options); }).find("row 1, column 299") != std::string::npos);
    // Finite rows whose plain sums would overflow are not taken for infinite.
    std::fill_n(w.data(), w.size(), std::numeric_limits<float>::max());
    CHECK(test::message([&] { backend.decompose(w, options); }).find("overflow") != std::string::npos);
}

}  // namespace contract
