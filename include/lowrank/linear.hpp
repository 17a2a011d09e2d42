// lowrank - Linear<T>: a dense linear layer, Y = X W + b, on the kernels of LowRankLinear.
// SPDX-License-Identifier: MIT
//
// X is n x d_in (rows are tokens), W d_in x d_out, b has d_out entries, Y is n x d_out, all row-major. For the layers
// of a model that stay dense. T is the storage type of weights and activations: float, double, bf16 or f16; products
// accumulate in float (double for double). A layer does not change after it is made, so threads may share one, each
// with its own workspace. forward() with a span allocates nothing.
//
//     lowrank::Linear<lowrank::bf16> lm_head(weight, lowrank::WeightLayout::out_in);
//     lowrank::Workspace workspace;
//     lm_head.forward(cpu, X, Y, workspace);
#pragma once

#include <lowrank/cpu/forward.hpp>
#include <lowrank/cpu/packed_weight.hpp>
#include <lowrank/layer.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lowrank {

template <Scalar T, class Space = HostSpace>
class Linear;

template <Scalar T>
class Linear<T, HostSpace> : public detail::LayerForward<Linear<T, HostSpace>, T> {
public:
    using Compute = compute_t<T>;

    /// `weight` is W (d_in x d_out) or, with WeightLayout::out_in, W^T (d_out x d_in), as checkpoints store it. `bias`
    /// has d_out entries, or none for no bias. Throws ShapeError if its size does not fit.
    template <ScalarRange Bias = std::span<const T>>
    Linear(MatrixView<const T> weight, WeightLayout layout, const Bias& bias = {})
        : weight_(weight, layout), bias_(detail::layer_bias<T>(bias, weight_.cols())) {}

    [[nodiscard]] std::int64_t d_in() const { return weight_.rows(); }
    [[nodiscard]] std::int64_t d_out() const { return weight_.cols(); }
    [[nodiscard]] std::int64_t parameters() const { return d_in() * d_out() + static_cast<std::int64_t>(bias_.size()); }
    /// Bytes that the packed weight occupies, padding included.
    [[nodiscard]] std::size_t weight_bytes() const { return weight_.bytes(); }

    /// W, d_in x d_out, bit for bit.
    [[nodiscard]] Matrix<T> weight() const { return weight_.unpack(); }
    [[nodiscard]] std::span<const Compute> bias() const { return bias_; }

    /// Bytes of workspace that forward() needs for up to `rows` rows in this context.
    template <class Context>
    [[nodiscard]] std::size_t workspace_bytes(const Context& context, std::int64_t rows) const {
        return linear_workspace_bytes<T>(context, rows, d_in(), d_out());
    }

    /// This layer as one of those that share an X: see LinearGroup.
    template <class Out>
    [[nodiscard]] cpu::ForwardLayer<T, Out> part(MatrixView<Out> y) const {
        return {&weight_, nullptr, bias_.empty() ? nullptr : bias_.data(), y};
    }

private:
    friend detail::LayerForward<Linear, T>;

    template <class Context, class Out>
    void run(const Context& context, MatrixView<const T> x, MatrixView<Out> y, std::span<std::byte> workspace) const {
        linear_forward<T, Out>(context, x, weight_, bias_.empty() ? nullptr : bias_.data(), y, workspace);
    }

    cpu::PackedWeight<T> weight_;
    std::vector<Compute> bias_;
};

}  // namespace lowrank
