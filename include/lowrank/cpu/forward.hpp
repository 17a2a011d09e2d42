// lowrank - the CPU's forward products, reached from the layers by argument-dependent look-up.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/forward_run.hpp>
#include <lowrank/cpu/packed_weight.hpp>
#include <lowrank/matrix.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace lowrank::cpu {

/// One of the layers that map the same X: Y = (X W1) W2 + b, or Y = X W1 + b where `w2` is null. `bias` has Y's columns
/// or is null.
template <Scalar T, Scalar Out>
using ForwardLayer = detail::ForwardMember<T, Out>;

/// Bytes that forward_layers needs for `rows` rows of d_in elements; `ranks` are those of the low-rank layers.
template <Scalar T>
std::size_t forward_workspace_bytes(const Context& context, std::int64_t rows, std::int64_t d_in,
                                    std::span<const std::int64_t> ranks) {
    if (rows <= 0) return 0;
    return static_cast<std::size_t>(detail::ForwardLayout<T>(context, rows, d_in, ranks).total);
}

/// Every layer's Y from one X, which is converted once, if at all. `ranks` as above, in the order of the layers.
template <Scalar T, Scalar Out>
void forward_layers(const Context& context, MatrixView<const T> x, std::span<const ForwardLayer<T, Out>> layers,
                    std::span<const std::int64_t> ranks, std::span<std::byte> workspace) {
    if (x.rows() == 0) return;
    const detail::ForwardLayout<T> layout(context, x.rows(), x.cols(), ranks);
    void* base = workspace.data();
    std::size_t space = workspace.size();
    auto* aligned = static_cast<std::byte*>(std::align(64, workspace.size() - 64, base, space));
    detail::ForwardRun<T, Out>(context, x, layers, layout, aligned);
}

template <Scalar T>
std::size_t low_rank_workspace_bytes(const Context& context, std::int64_t rows, std::int64_t d_in, std::int64_t rank,
                                     std::int64_t /*d_out*/) {
    return forward_workspace_bytes<T>(context, rows, d_in, std::array{rank});
}

/// Y = (X W1) W2 + b. X is n x d_in, Y n x d_out, `bias` has d_out entries or is null.
template <Scalar T, Scalar Out>
void low_rank_forward(const Context& context, MatrixView<const T> x, const PackedWeight<T>& w1,
                      const PackedWeight<T>& w2, const compute_t<T>* bias, MatrixView<Out> y,
                      std::span<std::byte> workspace) {
    const std::array<ForwardLayer<T, Out>, 1> layers{{{&w1, &w2, bias, y}}};
    forward_layers<T, Out>(context, x, layers, std::array{w1.cols()}, workspace);
}

template <Scalar T>
std::size_t linear_workspace_bytes(const Context& context, std::int64_t rows, std::int64_t d_in,
                                   std::int64_t /*d_out*/) {
    return forward_workspace_bytes<T>(context, rows, d_in, {});
}

/// Y = X W + b. X is n x d_in, Y n x d_out, `bias` has d_out entries or is null.
template <Scalar T, Scalar Out>
void linear_forward(const Context& context, MatrixView<const T> x, const PackedWeight<T>& w, const compute_t<T>* bias,
                    MatrixView<Out> y, std::span<std::byte> workspace) {
    const std::array<ForwardLayer<T, Out>, 1> layers{{{&w, nullptr, bias, y}}};
    forward_layers<T, Out>(context, x, layers, {}, workspace);
}

}  // namespace lowrank::cpu

#include <lowrank/cpu/compiled/forward.hpp>  // below what it announces
