// lowrank - an orthonormal basis of a block's columns.
// SPDX-License-Identifier: MIT
//
// Cholesky-QR (Stathopoulos, Wu 2002) with the Gram matrix in double, once or twice; twice is orthonormal to working
// accuracy (Yamamoto, Nakatsukasa, Yanagisawa, Fukaya 2015). Householder QR where the block is too ill-conditioned.
#pragma once

#include <lowrank/cpu/cholesky.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/triangular.hpp>
#include <lowrank/cpu/tridiagonal.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace lowrank::cpu {

namespace detail {

/// Lower bound of the condition number that a block has once its columns are scaled to norm 1, from R^-1 and their
/// squared norms: the norm of a column against what of it the columns before it leave.
inline double condition_estimate(const Matrix<double>& inverse, const std::vector<double>& squared_norms) {
    double largest = 0;
    for (std::int64_t i = 0; i < inverse.rows(); ++i) {
        largest = std::max(largest, inverse(i, i) * std::sqrt(squared_norms[static_cast<std::size_t>(i)]));
    }
    return largest;
}

/// q = q R^-1, and the condition number that q had. Nothing, q unchanged, if q^T q is not positive definite to
/// `tolerance`. `scratch` is a matrix of q's size.
template <ComputeScalar T>
std::optional<double> cholesky_qr(const Context& context, Matrix<T>& q, Matrix<T>& scratch, double tolerance) {
    const std::int64_t l = q.cols();
    auto s = Matrix<double>::uninitialized(l, l);
    auto x = Matrix<double>::uninitialized(l, l);
    gram(context, 1.0, q, Transpose::yes, 0.0, s.view());
    std::vector<double> squared_norms(static_cast<std::size_t>(l));
    for (std::int64_t i = 0; i < l; ++i) squared_norms[static_cast<std::size_t>(i)] = s(i, i);
    if (!inverse_cholesky(context, s.view(), x.view(), tolerance)) return std::nullopt;
    auto inverse = Matrix<T>::uninitialized(l, l);
    for (std::size_t i = 0; i < x.size(); ++i) inverse.data()[i] = static_cast<T>(x.data()[i]);
    times_upper(context, const_view(q), const_view(inverse), scratch.view());
    std::swap(q, scratch);
    return condition_estimate(x, squared_norms);
}

/// Q of the QR decomposition of q, column by column in double: slow, for blocks that nothing faster can handle.
/// 4 rows columns^2 operations, half of them for forming Q.
template <ComputeScalar T>
void householder_qr(Matrix<T>& q) {
    const std::int64_t m = q.rows();
    const std::int64_t l = q.cols();
    Matrix<double> columns(l, m);  // the transpose, so that a column is contiguous; becomes the reflections
    for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < l; ++j) columns(j, i) = static_cast<double>(q(i, j));
    }
    std::vector<double> tau(static_cast<std::size_t>(l));
    const auto reflect = [&](std::int64_t k, double* x) {
        const double* v = columns.row(k);
        double dot = 0;
        for (std::int64_t i = k; i < m; ++i) dot += v[i] * x[i];
        dot *= tau[static_cast<std::size_t>(k)];
        for (std::int64_t i = k; i < m; ++i) x[i] -= dot * v[i];
    };
    for (std::int64_t k = 0; k < l; ++k) {
        static_cast<void>(make_reflection(columns.row(k) + k, m - k, tau[static_cast<std::size_t>(k)]));
        for (std::int64_t j = k + 1; j < l; ++j) reflect(k, columns.row(j));
    }
    std::vector<double> unit(static_cast<std::size_t>(m));
    for (std::int64_t j = 0; j < l; ++j) {
        std::fill(unit.begin(), unit.end(), 0.0);
        unit[static_cast<std::size_t>(j)] = 1;
        for (std::int64_t k = j; k >= 0; --k) reflect(k, unit.data());
        for (std::int64_t i = 0; i < m; ++i) q(i, j) = static_cast<T>(unit[static_cast<std::size_t>(i)]);
    }
}

}  // namespace detail

/// How close to orthonormal the result has to be: |q^T q - I|.
enum class Orthonormal : std::uint8_t {
    to_first_order,       ///< of order 1000 ulp: one pass, unless the block is ill-conditioned; for who corrects that
    roughly,              ///< of order 100 ulp
    to_working_accuracy,  ///< a few ulp
};

/// Replaces the columns of q (rows >= columns, finite) by an orthonormal basis of their span; columns that depend on
/// others become arbitrary. `scratch` has the size of q. 2 to 4 rows columns^2 operations, 4 more where Householder's
/// reflections are needed.
template <ComputeScalar T>
void orthonormalize(const Context& context, Matrix<T>& q, Matrix<T>& scratch, Orthonormal accuracy) {
    // Squared condition numbers that a Gram matrix in double still shows: (2^24)^2 for float input is just beyond it.
    // For double input the Gram matrix itself rounds at 2^-53.
    constexpr double kTolerance = std::is_same_v<T, float> ? 1e-13 : 1e-12;
    // One pass leaves an error of order ulp times the condition number.
    const double well_conditioned = accuracy == Orthonormal::to_first_order ? 1000 : 100;
    const auto condition = detail::cholesky_qr(context, q, scratch, kTolerance);
    if (condition && accuracy != Orthonormal::to_working_accuracy && *condition < well_conditioned) return;
    if (!condition || !detail::cholesky_qr(context, q, scratch, kTolerance)) detail::householder_qr(q);
}

}  // namespace lowrank::cpu
