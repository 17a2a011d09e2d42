// lowrank - products with a triangular matrix, and the solution of systems with one, on the CPU.
// SPDX-License-Identifier: MIT
//
// Blocked, so that the work is done by gemm, without the blocks that are zero: n^2 k operations for n x n times n x k.
// For products the matrix must be zero on the other side of the diagonal. Deterministic as gemm is.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstdint>

namespace lowrank::cpu {

namespace detail {

/// Blocks of an n x n triangle in products: few enough that each is a large product, and 1/8 of the zeros is computed.
constexpr std::int64_t triangle_block(std::int64_t n) {
    return std::max<std::int64_t>(64, ceil_div(n, 8));
}

}  // namespace detail

/// L^T A: n x k.
template <ComputeScalar T>
Matrix<T> lower_transposed_times(const Context& context, MatrixView<const T> lower, MatrixView<const T> a,
                                 Operands operands = Operands::exact) {
    const std::int64_t n = lower.rows();
    auto result = Matrix<T>::uninitialized(n, a.cols());
    const std::int64_t block = detail::triangle_block(n);
    for (std::int64_t i = 0; i < n; i += block) {
        const std::int64_t rows = std::min(block, n - i);
        gemm(context, T(1), lower.block(i, i, n - i, rows), Transpose::yes, a.block(i, 0, n - i, a.cols()),
             Transpose::no, T(0), result.view().block(i, 0, rows, a.cols()), operands);
    }
    return result;
}

/// L A: n x k.
template <ComputeScalar T>
Matrix<T> lower_times(const Context& context, MatrixView<const T> lower, MatrixView<const T> a) {
    const std::int64_t n = lower.rows();
    auto result = Matrix<T>::uninitialized(n, a.cols());
    const std::int64_t block = detail::triangle_block(n);
    for (std::int64_t i = 0; i < n; i += block) {
        const std::int64_t rows = std::min(block, n - i);
        gemm(context, T(1), lower.block(i, 0, rows, i + rows), Transpose::no, a.block(0, 0, i + rows, a.cols()),
             Transpose::no, T(0), result.view().block(i, 0, rows, a.cols()));
    }
    return result;
}

/// A L: m x n.
template <ComputeScalar T>
Matrix<T> times_lower(const Context& context, MatrixView<const T> a, MatrixView<const T> lower,
                      Operands operands = Operands::exact) {
    const std::int64_t n = lower.rows();
    auto result = Matrix<T>::uninitialized(a.rows(), n);
    const std::int64_t block = detail::triangle_block(n);
    for (std::int64_t j = 0; j < n; j += block) {
        const std::int64_t columns = std::min(block, n - j);
        gemm(context, T(1), a.block(0, j, a.rows(), n - j), Transpose::no, lower.block(j, j, n - j, columns),
             Transpose::no, T(0), result.view().block(0, j, a.rows(), columns), operands);
    }
    return result;
}

/// result = A R, m x n, R upper triangular. It must not overlap A.
template <ComputeScalar T>
void times_upper(const Context& context, MatrixView<const T> a, MatrixView<const T> upper, MatrixView<T> result) {
    const std::int64_t n = upper.rows();
    const std::int64_t block = detail::triangle_block(n);
    for (std::int64_t j = 0; j < n; j += block) {
        const std::int64_t end = std::min(j + block, n);
        gemm(context, T(1), a.block(0, 0, a.rows(), end), Transpose::no, upper.block(0, j, end, end - j), Transpose::no,
             T(0), result.block(0, j, a.rows(), end - j));
    }
}

/// Replaces B (m x n) by B L^-1, by back substitution from the last column. The diagonal of L must not hold a zero.
template <ComputeScalar T>
void solve_lower_from_right(const Context& context, MatrixView<const T> lower, MatrixView<T> b) {
    constexpr std::int64_t kBlock = 64;  // columns solved by substitution: a triangle that the first-level cache holds
    const std::int64_t n = lower.rows();
    for (std::int64_t begin = (n - 1) / kBlock * kBlock; begin >= 0; begin -= kBlock) {
        const std::int64_t end = std::min(begin + kBlock, n);
        if (end < n) {
            gemm(context, T(-1), MatrixView<const T>(b.block(0, end, b.rows(), n - end)), Transpose::no,
                 lower.block(end, begin, n - end, end - begin), Transpose::no, T(1),
                 b.block(0, begin, b.rows(), end - begin));
        }
        context.parallel_for(b.rows(), [&](std::int64_t i) {
            T* row = b.row(i);
            for (std::int64_t k = end - 1; k >= begin; --k) {
                row[k] /= lower(k, k);
                for (std::int64_t j = begin; j < k; ++j) row[j] -= row[k] * lower(k, j);
            }
        });
    }
}

}  // namespace lowrank::cpu
