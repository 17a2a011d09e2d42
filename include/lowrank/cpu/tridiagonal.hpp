// lowrank - a symmetric matrix brought to tridiagonal form by Householder reflections: A = Q T Q^T.
// SPDX-License-Identifier: MIT
//
// One pass over the trailing matrix for each reflection: rows are updated for the last one and multiplied with the
// next one's vector while they are in registers (the fusion of Howell, Demmel, Fulton, Hammarling, Marmol 2008). Q from
// the reflections in blocks, by products (Schreiber, Van Loan 1989). 2 n^3 operations and 4/3 n^3 for Q.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/kernels/rank_two_dot.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank::cpu::detail {

template <ComputeScalar T>
struct Tridiagonal {
    std::vector<double> diagonal;
    std::vector<double> subdiagonal;  ///< of the diagonal's size, the last entry 0
    Matrix<T> reflections;            ///< row k: v of I - tau v v^T, zero up to column k
    std::vector<T> tau;
};

/// The reflection I - tau v v^T that maps x to (beta, 0, ..., 0): x becomes v, with v_0 = 1. Returns beta. Safe for x
/// so small that its squares leave the range, as what rounding leaves of a matrix of low rank may be.
template <class T>
T make_reflection(T* x, std::int64_t n, T& tau) {
    const auto squares = [&] {
        double sum = 0;
        for (std::int64_t j = 1; j < n; ++j) sum += static_cast<double>(x[j]) * static_cast<double>(x[j]);
        return sum;
    };
    constexpr double kLeast = 1e-200;  // above it, squares that underflow are below the rounding of the sum
    double rest = squares();
    int exponent = 0;
    if (rest < kLeast) {
        T largest = 0;
        for (std::int64_t j = 0; j < n; ++j) largest = std::max(largest, std::abs(x[j]));
        if (largest > 0) static_cast<void>(std::frexp(largest, &exponent));
        for (std::int64_t j = 0; j < n; ++j) x[j] = std::ldexp(x[j], -exponent);
        rest = squares();
    }
    const double first = x[0];
    tau = 0;
    double beta = first;
    if (rest >= kLeast) {
        beta = -std::copysign(std::sqrt(first * first + rest), first);
        tau = static_cast<T>((beta - first) / beta);
        const double scale = 1 / (first - beta);
        for (std::int64_t j = 1; j < n; ++j) x[j] = static_cast<T>(x[j] * scale);
    }
    x[0] = 1;
    return std::ldexp(static_cast<T>(beta), exponent);
}

/// `a` is n x n, symmetric with both triangles stored, its entries at most of order 1; it is destroyed.
template <ComputeScalar T>
Tridiagonal<T> tridiagonalize(const Context& context, Matrix<T>& a) {
    // Rows that one task updates; and the order below which a second thread costs more than it brings, also on a busy
    // machine, where the start of each of the n passes may have to wait; estimated, not measured.
    constexpr std::int64_t kTaskRows = 64;
    constexpr std::int64_t kAligned = 64 / sizeof(T);
    constexpr std::int64_t kParallelFrom = 2048;
    const auto kernel = rank_two_dot_for<T>(context.isa());
    static_assert(kTaskRows % RankTwoDot<T>::kRows == 0, "rows go together whatever the number of threads");
    const std::int64_t n = a.rows();
    const auto size = static_cast<std::size_t>(n);
    Tridiagonal<T> result{std::vector<double>(size), std::vector<double>(size), Matrix<T>(n, n), std::vector<T>(size)};
    Matrix<T> last_w(1, n);  // of the last reflection, with v in the row before; aligned as its rows are
    T* w = last_w.row(0);
    std::vector<T> product(size);
    const Matrix<T> zero(1, n);
    const T* last_v = zero.row(0);
    for (std::int64_t k = 0; k < n; ++k) {
        // Row k still lacks the last reflection's update; so do the rows below, which the pass then gives them.
        T* row = a.row(k);
        for (std::int64_t j = k; j < n; ++j) row[j] -= last_v[k] * w[j] + w[k] * last_v[j];
        result.diagonal[static_cast<std::size_t>(k)] = row[k];
        if (k + 1 == n) break;
        T* v = result.reflections.row(k);
        std::copy(row + k + 1, row + n, v + k + 1);
        T& tau = result.tau[static_cast<std::size_t>(k)];
        result.subdiagonal[static_cast<std::size_t>(k)] = make_reflection(v + k + 1, n - k - 1, tau);
        // From a column on that is aligned where rows are; of what lies before k + 1, v is zero and nothing is read
        // again.
        const std::int64_t from = (k + 1) / kAligned * kAligned;
        const auto pass = [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end;) {
                const bool several = i + kernel.kRows <= end;
                (several ? kernel.rows : kernel.row)(n - from, a.row(i) + from, a.view().leading_dimension(),
                                                     last_v + i, w + i, last_v + from, w + from, v + from,
                                                     product.data() + i);
                i += several ? kernel.kRows : 1;
            }
        };
        const std::int64_t rows = n - k - 1;
        if (rows < kParallelFrom || context.threads() == 1) {
            pass(k + 1, n);
        } else {
            context.parallel_for((rows + kTaskRows - 1) / kTaskRows, [&](std::int64_t part) {
                pass(k + 1 + part * kTaskRows, std::min(k + 1 + (part + 1) * kTaskRows, n));
            });
        }
        double dot = 0;
        for (std::int64_t j = k + 1; j < n; ++j) {
            dot += static_cast<double>(product[static_cast<std::size_t>(j)]) * static_cast<double>(v[j]);
        }
        const T half = static_cast<T>(dot * tau * tau / 2);
        for (std::int64_t j = k + 1; j < n; ++j) {
            w[j] = tau * product[static_cast<std::size_t>(j)] - half * v[j];
        }
        last_v = v;
    }
    return result;
}

/// Q^T, n x n, of a tridiagonalisation.
template <ComputeScalar T>
Matrix<T> transposed_q(const Context& context, const Tridiagonal<T>& tridiagonal) {
    constexpr std::int64_t kBlock = 48;  // reflections at a time: their product costs n kBlock^2, the rest n^2 kBlock
    const std::int64_t n = tridiagonal.reflections.rows();
    Matrix<T> qt(n, n);
    for (std::int64_t i = 0; i < n; ++i) qt(i, i) = 1;
    for (std::int64_t begin = (n - 1) / kBlock * kBlock; begin >= 0; begin -= kBlock) {
        const std::int64_t count = std::min(kBlock, n - begin);
        // The reflections touch columns begin + 1 and on; before them, Q^T is still the identity there.
        const std::int64_t from = std::min(begin + 1, n - 1);
        const std::int64_t rest = n - from;
        const auto v = tridiagonal.reflections.view().block(begin, from, count, rest);
        const auto target = qt.view().block(from, from, rest, rest);
        // H_begin ... H_end = I - V^T t V, t upper triangular.
        Matrix<T> overlaps(count, count);
        gram(context, T{1}, v, Transpose::no, T{0}, overlaps.view());
        Matrix<T> t(count, count);
        for (std::int64_t i = 0; i < count; ++i) {
            const T tau = tridiagonal.tau[static_cast<std::size_t>(begin + i)];
            t(i, i) = tau;
            for (std::int64_t r = 0; r < i; ++r) {
                T sum = 0;
                for (std::int64_t l = r; l < i; ++l) sum += t(r, l) * overlaps(l, i);
                t(r, i) = -tau * sum;
            }
        }
        // target (I - V^T t V)^T = target - ((target V^T) t^T) V
        Matrix<T> product(rest, count);
        Matrix<T> weighted(rest, count);
        gemm(context, T{1}, target, Transpose::no, v, Transpose::yes, T{0}, product.view());
        gemm(context, T{1}, product, Transpose::no, t, Transpose::yes, T{0}, weighted.view());
        gemm(context, T{-1}, weighted, Transpose::no, v, Transpose::no, T{1}, target);
    }
    return qt;
}

}  // namespace lowrank::cpu::detail
