// lowrank - the CPU's forward products, reached from LowRankLinear by argument-dependent look-up.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/packed_weight.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace lowrank::cpu {

/// Bytes that low_rank_forward needs for `rows` rows.
template <Scalar T>
std::size_t low_rank_workspace_bytes(const Context& /*context*/, std::int64_t rows, std::int64_t /*d_in*/,
                                     std::int64_t rank, std::int64_t d_out) {
    return static_cast<std::size_t>(rows * (rank + d_out)) * sizeof(compute_t<T>) + alignof(compute_t<T>);
}

namespace detail {

/// y += x W for one row, in the order of W's rows.
template <Scalar T, class X>
void add_row_product(const X* x, const PackedWeight<T>& w, compute_t<T>* y) {
    using C = compute_t<T>;
    for (std::int64_t k = 0; k < w.rows(); ++k) {
        const C factor = static_cast<C>(x[k]);
        const T* row = w.row(k);
        for (std::int64_t j = 0; j < w.cols(); ++j) y[j] += factor * static_cast<C>(row[j]);
    }
}

}  // namespace detail

/// Y = (X W1) W2 + b. X is n x d_in, Y n x d_out, `bias` has d_out entries or is null.
template <Scalar T, Scalar Out>
void low_rank_forward(const Context& context, MatrixView<const T> x, const PackedWeight<T>& w1,
                      const PackedWeight<T>& w2, const compute_t<T>* bias, MatrixView<Out> y,
                      std::span<std::byte> workspace) {
    using C = compute_t<T>;
    void* base = workspace.data();
    std::size_t space = workspace.size();
    auto* scratch = static_cast<C*>(std::align(alignof(C), 1, base, space));
    const std::int64_t width = w1.cols() + w2.cols();
    context.parallel_for(x.rows(), [&](std::int64_t i) {
        C* middle = scratch + i * width;
        C* out = middle + w1.cols();
        std::fill_n(middle, w1.cols(), C(0));
        for (std::int64_t j = 0; j < w2.cols(); ++j) out[j] = bias != nullptr ? bias[j] : C(0);
        detail::add_row_product(x.row(i), w1, middle);
        detail::add_row_product(middle, w2, out);
        for (std::int64_t j = 0; j < w2.cols(); ++j) y(i, j) = static_cast<Out>(out[j]);
    });
}

/// Bytes that linear_forward needs for `rows` rows.
template <Scalar T>
std::size_t linear_workspace_bytes(const Context& /*context*/, std::int64_t rows, std::int64_t /*d_in*/,
                                   std::int64_t d_out) {
    return static_cast<std::size_t>(rows * d_out) * sizeof(compute_t<T>) + alignof(compute_t<T>);
}

/// Y = X W + b. X is n x d_in, Y n x d_out, `bias` has d_out entries or is null.
template <Scalar T, Scalar Out>
void linear_forward(const Context& context, MatrixView<const T> x, const PackedWeight<T>& w, const compute_t<T>* bias,
                    MatrixView<Out> y, std::span<std::byte> workspace) {
    using C = compute_t<T>;
    void* base = workspace.data();
    std::size_t space = workspace.size();
    auto* scratch = static_cast<C*>(std::align(alignof(C), 1, base, space));
    context.parallel_for(x.rows(), [&](std::int64_t i) {
        C* out = scratch + i * w.cols();
        for (std::int64_t j = 0; j < w.cols(); ++j) out[j] = bias != nullptr ? bias[j] : C(0);
        detail::add_row_product(x.row(i), w, out);
        for (std::int64_t j = 0; j < w.cols(); ++j) y(i, j) = static_cast<Out>(out[j]);
    });
}

}  // namespace lowrank::cpu
