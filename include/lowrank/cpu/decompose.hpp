// lowrank - decompose() on the CPU: weight in, factors out.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/svd.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cpu {

namespace detail {

/// Throws ValueError naming the first NaN or infinity. Tests bits: comparisons mean nothing under -ffast-math.
template <Scalar T>
void require_finite(MatrixView<const T> a, const std::string& name) {
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        bool finite = true;
        for (std::int64_t j = 0; j < a.cols(); ++j) finite = finite && is_finite(a(i, j));
        if (finite) continue;
        std::int64_t j = 0;
        while (is_finite(a(i, j))) ++j;
        throw ValueError(name + ", " + shape_string(a.rows(), a.cols()) + ", is not finite at row " +
                         std::to_string(i) + ", column " + std::to_string(j) +
                         ": a NaN or an infinity cannot be factorised");
    }
}

/// ||A - U_r S_r V_r^T||_F, summed in double over blocks of A's rows, so that it takes little memory.
template <ComputeScalar T>
double residual_norm(MatrixView<const T> a, const Svd<T>& svd, std::int64_t rank) {
    constexpr std::int64_t kRows = 256;  // a block of 256 x 16384 floats is 16 MiB
    using Dense = EigenMatrix<T>;  // the transposes, column by column: the products that BDCSVD has compiled anyway
    const Eigen::Map<const Dense> v(svd.vt.data(), a.cols(), rank);
    double sum = 0;
    for (std::int64_t i = 0; i < a.rows(); i += kRows) {
        const std::int64_t rows = std::min(kRows, a.rows() - i);
        Dense coefficients(rank, rows);
        for (std::int64_t row = 0; row < rows; ++row) {
            for (std::int64_t k = 0; k < rank; ++k) {
                coefficients(k, row) = svd.s[static_cast<std::size_t>(k)] * svd.ut(k, i + row);
            }
        }
        Dense product(a.cols(), rows);
        product.noalias() = v * coefficients;
        for (std::int64_t row = 0; row < rows; ++row) {
            for (std::int64_t j = 0; j < a.cols(); ++j) {
                const double rest = static_cast<double>(a(i + row, j)) - static_cast<double>(product(j, row));
                sum += rest * rest;
            }
        }
    }
    return std::sqrt(sum);
}

/// Undoes the scaling of the weight: W2 and the singular values carry it.
template <ComputeScalar T>
void unscale(Factors<T>& factors, int exponent, const std::string& name) {
    if (exponent == 0) return;
    for (T& s : factors.singular_values) s = std::ldexp(s, exponent);
    for (std::int64_t i = 0; i < factors.w2.rows(); ++i) {
        for (std::int64_t j = 0; j < factors.w2.cols(); ++j) {
            T& entry = factors.w2(i, j);
            entry = std::ldexp(entry, exponent);
            if (!is_finite(entry)) {
                throw ValueError("the factors of " + name + " overflow its type: its entries are near the largest " +
                                 "number; scale the weight down");
            }
        }
    }
}

/// A copy of the weight in the compute type, times 2^-exponent so that its largest entry lies in [1/2, 1). The scaling
/// is exact, and keeps the squares that every norm and Gram matrix needs in range.
template <ComputeScalar T>
struct ScaledWeight {
    Matrix<T> values;
    int exponent = 0;
    double squared_norm = 0;  // of `values`
};

template <Scalar T>
ScaledWeight<compute_t<T>> scaled_weight(MatrixView<const T> a) {
    using C = compute_t<T>;
    ScaledWeight<C> scaled{Matrix<C>(a.rows(), a.cols())};
    C largest = 0;
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            scaled.values(i, j) = static_cast<C>(a(i, j));
            largest = std::max(largest, std::abs(scaled.values(i, j)));
        }
    }
    if (largest > 0) static_cast<void>(std::frexp(largest, &scaled.exponent));
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            C& entry = scaled.values(i, j);
            if (scaled.exponent != 0) entry = std::ldexp(entry, -scaled.exponent);
            scaled.squared_norm += static_cast<double>(entry) * static_cast<double>(entry);
        }
    }
    return scaled;
}

/// Below this relative error the error is measured on the residual itself: a difference of squared norms, or a sum of
/// singular values near the rounding of the largest, has lost its digits.
inline constexpr double kExplicitResidualBelow = 1e-3;

/// W1 = U_r, W2 = S_r V_r^T of the scaled weight, with the rank chosen from all of its singular values.
template <ComputeScalar T>
Factors<T> exact_factors(const ScaledWeight<T>& weight, const DecomposeOptions& options) {
    const bool in_out = options.layout == WeightLayout::in_out;
    Svd<T> svd = full_svd<T>(weight.values.view(), options.name);
    const Matrix<T>& left = in_out ? svd.ut : svd.vt;
    const Matrix<T>& right = in_out ? svd.vt : svd.ut;
    const std::vector<double> spectrum(svd.s.begin(), svd.s.end());
    const RankChoice choice = choose_rank(options.rank, left.cols(), right.cols(), {spectrum, weight.squared_norm});

    Factors<T> factors;
    factors.w1 = Matrix<T>(left.cols(), choice.rank);
    factors.w2 = Matrix<T>(choice.rank, right.cols());
    for (std::int64_t k = 0; k < choice.rank; ++k) {
        const T scale = svd.s[static_cast<std::size_t>(k)];
        for (std::int64_t i = 0; i < left.cols(); ++i) factors.w1(i, k) = left(k, i);
        for (std::int64_t j = 0; j < right.cols(); ++j) factors.w2(k, j) = scale * right(k, j);
    }
    factors.method = Method::exact;

    double tail = 0;
    for (std::size_t i = spectrum.size(); i-- > static_cast<std::size_t>(choice.rank);)
        tail += spectrum[i] * spectrum[i];
    double error = std::sqrt(tail);
    const double norm = std::sqrt(weight.squared_norm);
    // Tiny singular values are rounding errors themselves; then only the residual tells the error.
    if (error < kExplicitResidualBelow * norm) error = residual_norm<T>(weight.values.view(), svd, choice.rank);
    factors.relative_error = norm > 0 ? error / norm : 0;
    if (options.singular_values) factors.singular_values = std::move(svd.s);
    return factors;
}

}  // namespace detail

/// Factorises a d_in x d_out weight: W ~ W1 W2. See <lowrank/decompose.hpp>.
template <Scalar T>
Factors<compute_t<T>> decompose_weight(const Context& /*context*/, MatrixView<const T> stored,
                                       const DecomposeOptions& options) {
    using C = compute_t<T>;
    detail::require_finite(stored, options.name);
    const detail::ScaledWeight<C> weight = detail::scaled_weight(stored);
    Factors<C> factors = detail::exact_factors(weight, options);
    detail::unscale(factors, weight.exponent, options.name);
    return factors;
}

}  // namespace lowrank::cpu
