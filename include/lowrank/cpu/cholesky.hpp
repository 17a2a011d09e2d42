// lowrank - the Cholesky factor of a symmetric positive definite matrix, and its inverse.
// SPDX-License-Identifier: MIT
//
// With S = R^T R, R upper triangular, X = R^-1 makes the columns of Q R^-1 orthonormal when S = Q^T Q. Recursive on
// halves (Elmroth, Gustavson 2000), so that all but the smallest blocks are products; n^3 / 3 operations for R, about
// n^3 for X.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank::cpu {

namespace detail {

// Order below which plain loops beat the start of a product; an estimate.
inline constexpr std::int64_t kCholeskyLeaf = 64;

/// About half of n, whole leaves.
constexpr std::int64_t half_of(std::int64_t n, std::int64_t leaf) {
    return ceil_div(n / 2, leaf) * leaf;
}

/// R over the upper triangle of one leaf, row by row. False if a pivot is not positive.
inline bool cholesky_leaf(MatrixView<double> s, double smallest_pivot) {
    const std::int64_t n = s.rows();
    for (std::int64_t k = 0; k < n; ++k) {
        const double pivot = s(k, k);
        if (!(pivot > smallest_pivot)) return false;
        const double scale = 1 / std::sqrt(pivot);
        for (std::int64_t j = k; j < n; ++j) s(k, j) *= scale;
        for (std::int64_t i = k + 1; i < n; ++i) {
            const double factor = s(k, i);
            for (std::int64_t j = i; j < n; ++j) s(i, j) -= factor * s(k, j);
        }
    }
    return true;
}

/// b = R^-T b
inline void solve_transposed(const Context& context, MatrixView<const double> r, MatrixView<double> b) {
    constexpr std::int64_t kLeaf = kCholeskyLeaf / 2;
    const std::int64_t n = r.rows();
    if (n > kLeaf) {
        const std::int64_t h = half_of(n, kLeaf);
        const auto below = b.block(h, 0, n - h, b.cols());
        solve_transposed(context, r.block(0, 0, h, h), b.block(0, 0, h, b.cols()));
        gemm(context, -1.0, r.block(0, h, h, n - h), Transpose::yes, b.block(0, 0, h, b.cols()), Transpose::no, 1.0,
             below);
        solve_transposed(context, r.block(h, h, n - h, n - h), below);
        return;
    }
    constexpr std::int64_t kColumns = 64;  // of a leaf: 16 KiB, which stay in the cache
    context.parallel_for(ceil_div(b.cols(), kColumns), [&](std::int64_t part) {
        const std::int64_t begin = part * kColumns;
        const std::int64_t count = std::min(kColumns, b.cols() - begin);
        for (std::int64_t k = 0; k < n; ++k) {
            double* row = b.row(k) + begin;
            for (std::int64_t i = 0; i < k; ++i) {
                const double factor = r(i, k);
                const double* earlier = b.row(i) + begin;
                for (std::int64_t j = 0; j < count; ++j) row[j] -= factor * earlier[j];
            }
            for (std::int64_t j = 0; j < count; ++j) row[j] /= r(k, k);
        }
    });
}

/// X = R^-1 for one leaf, by columns; destroys s. False if a pivot is not positive.
inline bool inverse_cholesky_leaf(MatrixView<double> s, MatrixView<double> x, double smallest_pivot) {
    if (!cholesky_leaf(s, smallest_pivot)) return false;
    const std::int64_t n = s.rows();
    for (std::int64_t i = n - 1; i >= 0; --i) {  // row i of X from the rows below it
        const double scale = 1 / s(i, i);
        for (std::int64_t j = 0; j < n; ++j) x(i, j) = i == j ? 1 : 0;
        for (std::int64_t k = i + 1; k < n; ++k) {
            const double factor = s(i, k);
            for (std::int64_t j = k; j < n; ++j) x(i, j) -= factor * x(k, j);
        }
        for (std::int64_t j = i; j < n; ++j) x(i, j) *= scale;
    }
    return true;
}

inline bool inverse_cholesky_halves(const Context& context, MatrixView<double> s, MatrixView<double> x,
                                    double smallest_pivot) {
    const std::int64_t n = s.rows();
    if (n <= kCholeskyLeaf) return inverse_cholesky_leaf(s, x, smallest_pivot);
    const std::int64_t h = half_of(n, kCholeskyLeaf);
    const auto s12 = s.block(0, h, h, n - h);
    const auto s22 = s.block(h, h, n - h, n - h);
    const auto x11 = x.block(0, 0, h, h);
    const auto x12 = x.block(0, h, h, n - h);
    const auto x22 = x.block(h, h, n - h, n - h);
    if (!inverse_cholesky_halves(context, s.block(0, 0, h, h), x11, smallest_pivot)) return false;
    // R12 = R11^-T S12, S22 -= R12^T R12, X12 = -X11 R12 X22.
    Matrix<double> r12(h, n - h);
    gemm(context, 1.0, x11, Transpose::yes, s12, Transpose::no, 0.0, r12.view());
    gram(context, -1.0, r12, Transpose::yes, 1.0, s22);
    if (!inverse_cholesky_halves(context, s22, x22, smallest_pivot)) return false;
    gemm(context, 1.0, x11, Transpose::no, r12, Transpose::no, 0.0, s12);
    gemm(context, -1.0, s12, Transpose::no, x22, Transpose::no, 0.0, x12);
    for (std::int64_t i = h; i < n; ++i) std::fill_n(x.row(i), h, 0.0);
    return true;
}

}  // namespace detail

/// R, upper triangular, over the upper triangle of S = R^T R; what is below is neither read nor written. Backward
/// stable (Higham 2002, theorem 10.3). Returns false, S half overwritten, if a pivot is at or below `smallest_pivot`.
inline bool cholesky(const Context& context, MatrixView<double> s, double smallest_pivot) {
    const std::int64_t n = s.rows();
    if (n <= detail::kCholeskyLeaf) return detail::cholesky_leaf(s, smallest_pivot);
    const std::int64_t h = detail::half_of(n, detail::kCholeskyLeaf);
    const auto s11 = s.block(0, 0, h, h);
    const auto s12 = s.block(0, h, h, n - h);
    const auto s22 = s.block(h, h, n - h, n - h);
    if (!cholesky(context, s11, smallest_pivot)) return false;
    detail::solve_transposed(context, s11, s12);
    const MatrixView<const double> r12 = s12;
    detail::product(context, detail::Part::upper, Operands::exact, -1.0, r12, Transpose::yes, r12, Transpose::no, 1.0,
                    s22);
    return cholesky(context, s22, smallest_pivot);
}

/// X = R^-1 (upper triangular, zeros below) with S = R^T R. S is n x n, symmetric, and destroyed; X must not overlap
/// it. Returns false, X undefined, if S scaled to a unit diagonal has a pivot at or below `tolerance`: it is then not
/// positive definite to that accuracy. (That scaling is within a factor n of the best condition number that any gives:
/// van der Sluis 1969.)
inline bool inverse_cholesky(const Context& context, MatrixView<double> s, MatrixView<double> x, double tolerance) {
    const std::int64_t n = s.rows();
    std::vector<double> scale(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
        if (!(s(i, i) > 0)) return false;
        scale[static_cast<std::size_t>(i)] = 1 / std::sqrt(s(i, i));
    }
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
            s(i, j) *= scale[static_cast<std::size_t>(i)] * scale[static_cast<std::size_t>(j)];
        }
    }
    if (!detail::inverse_cholesky_halves(context, s, x, tolerance)) return false;
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = i; j < n; ++j) x(i, j) *= scale[static_cast<std::size_t>(i)];
    }
    return true;
}

}  // namespace lowrank::cpu
