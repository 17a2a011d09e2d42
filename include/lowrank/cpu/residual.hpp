// lowrank - the error of factors, measured on the weight itself where sums of squares have lost it to rounding.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/weight_scale.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace lowrank::cpu::detail {

/// scale^2 ||A - W1 W2 / scale||_F^2 in blocks of A's rows, so that it takes little memory, summed in double. A is W
/// or, with WeightLayout::out_in, W^T.
template <Scalar S, ComputeScalar T>
double squared_residual(const Context& context, MatrixView<const S> a, T scale, WeightLayout layout,
                        const Factors<T>& factors, Operands operands = Operands::exact) {
    constexpr std::int64_t kRows = 256;  // a block of 256 x 16384 floats is 16 MiB
    const bool in_out = layout == WeightLayout::in_out;
    std::vector<double> sums(static_cast<std::size_t>(a.rows()));  // of rows
    auto block = Matrix<T>::uninitialized(std::min(kRows, a.rows()), a.cols());
    for (std::int64_t i = 0; i < a.rows(); i += kRows) {
        const std::int64_t rows = std::min(kRows, a.rows() - i);
        const auto part = block.view().block(0, 0, rows, a.cols());
        if (in_out) {
            gemm(context, T{1}, factors.w1.view().block(i, 0, rows, factors.rank()), Transpose::no, factors.w2,
                 Transpose::no, T{0}, part, operands);
        } else {
            gemm(context, T{1}, factors.w2.view().block(0, i, factors.rank(), rows), Transpose::yes, factors.w1,
                 Transpose::yes, T{0}, part, operands);
        }
        context.parallel_for(rows, [&](std::int64_t row) {
            double row_sum = 0;
            for (std::int64_t j = 0; j < a.cols(); ++j) {
                const double entry = static_cast<double>(static_cast<T>(a(i + row, j)) * scale);
                const double rest = entry - static_cast<double>(part(row, j));
                row_sum += rest * rest;
            }
            sums[static_cast<std::size_t>(i + row)] = row_sum;
        });
    }
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}

/// Below this relative error the error is measured on the residual itself: a difference of squared norms has lost three
/// of float's seven digits there, and a sum of singular values near the rounding of the largest has lost them all.
inline constexpr double kExplicitResidualBelow = 0.03;

/// ||A - W1 W2 / scale||_F / ||A||_F given the sum of the squares that the factors leave out, `tail`; `magnitude` is
/// that of scale A.
template <Scalar S, ComputeScalar T>
double relative_residual(const Context& context, MatrixView<const S> a, T scale, WeightLayout layout,
                         const Factors<T>& factors, double tail, const WeightScale& magnitude) {
    if (magnitude.is_zero()) return 0;
    double squared = std::max(tail, 0.0) / magnitude.squared_norm;
    if (squared < kExplicitResidualBelow * kExplicitResidualBelow) {
        squared = squared_residual(context, a, scale, layout, factors) / magnitude.squared_norm;
    }
    return std::sqrt(squared);
}

}  // namespace lowrank::cpu::detail
