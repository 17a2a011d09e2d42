// lowrank - LinearGroup<T>: layers that share their input, such as q, k and v or gate and up, run as one.
// SPDX-License-Identifier: MIT
//
// Y_i = layer_i(X) for every layer, dense or low-rank, in one parallel region: X is converted once, if at all, and the
// first factors of all layers follow each other through one loop, so that small ones do not leave threads idle. What
// each Y_i is, and its bits, are the same as from the layers' own forward().
//
//     const lowrank::LinearGroup<lowrank::bf16> qkv(std::move(q_proj), std::move(k_proj), std::move(v_proj));
//     qkv.forward(cpu, X, std::array{Q, K, V}, workspace);  // views of n x d_out_i, also of parts of one matrix
#pragma once

#include <lowrank/cpu/forward.hpp>
#include <lowrank/linear.hpp>
#include <lowrank/low_rank_linear.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lowrank {

template <Scalar T>
class LinearGroup {
public:
    using Compute = compute_t<T>;
    using Layer = std::variant<Linear<T>, LowRankLinear<T>>;

    /// The most layers of a group: forward() lists them on the stack.
    static constexpr std::size_t kMaxLayers = 8;

    /// Takes the layers over. Throws ShapeError unless there are 1 to kMaxLayers and all have the same d_in.
    explicit LinearGroup(std::vector<Layer> layers) : layers_(std::move(layers)) { check(); }
    template <class... Layers>
    requires(sizeof...(Layers) > 0 &&
             (std::is_constructible_v<Layer, Layers&&> && ...)) explicit LinearGroup(Layers&&... layers) {
        layers_.reserve(sizeof...(Layers));
        (layers_.emplace_back(std::forward<Layers>(layers)), ...);
        check();
    }

    [[nodiscard]] std::span<const Layer> layers() const { return layers_; }
    /// 0 of a group that was moved from.
    [[nodiscard]] std::int64_t d_in() const {
        if (layers_.empty()) return 0;
        return std::visit([](const auto& layer) { return layer.d_in(); }, layers_.front());
    }

    /// Bytes of workspace that forward() needs for up to `rows` rows in this context.
    template <class Context>
    [[nodiscard]] std::size_t workspace_bytes(const Context& context, std::int64_t rows) const {
        return forward_workspace_bytes<T>(context, rows, d_in(), ranks_);
    }

    /// One Y for each layer, in T or in float. As Linear's forward(): nothing is allocated, nothing may overlap, and
    /// ShapeError is thrown if a size does not fit.
    template <class Context>
    void forward(const Context& context, MatrixView<const T> x, std::span<const MatrixView<T>> ys,
                 std::span<std::byte> workspace) const {
        run(context, x, ys, workspace);
    }
    template <class Context>
    requires(!ComputeScalar<T>) void forward(const Context& context, MatrixView<const T> x,
                                             std::span<const MatrixView<Compute>> ys,
                                             std::span<std::byte> workspace) const {
        run(context, x, ys, workspace);
    }

    /// The same with a workspace that grows when it has to.
    template <class Context>
    void forward(const Context& context, MatrixView<const T> x, std::span<const MatrixView<T>> ys,
                 Workspace& workspace) const {
        run(context, x, ys, workspace.reserve(workspace_bytes(context, x.rows())));
    }
    template <class Context>
    requires(!ComputeScalar<T>) void forward(const Context& context, MatrixView<const T> x,
                                             std::span<const MatrixView<Compute>> ys, Workspace& workspace) const {
        run(context, x, ys, workspace.reserve(workspace_bytes(context, x.rows())));
    }
    template <class Context, class Out, std::size_t kLayers>
    void forward(const Context& context, MatrixView<const T> x, const std::array<MatrixView<Out>, kLayers>& ys,
                 Workspace& workspace) const {
        forward(context, x, std::span<const MatrixView<Out>>(ys), workspace);
    }

private:
    void check() {
        if (layers_.empty() || layers_.size() > kMaxLayers) {
            throw ShapeError("a group cannot have " + std::to_string(layers_.size()) + " layers: 1 to " +
                             std::to_string(kMaxLayers) + " are possible");
        }
        for (const Layer& layer : layers_) {
            const std::int64_t needed = std::visit([](const auto& l) { return l.d_in(); }, layer);
            if (needed != d_in()) {
                throw ShapeError("layers that share their input need the same d_in, not " + std::to_string(d_in()) +
                                 " and " + std::to_string(needed));
            }
            if (const auto* low_rank = std::get_if<LowRankLinear<T>>(&layer)) ranks_.push_back(low_rank->rank());
        }
    }

    template <class Context, class Out>
    void run(const Context& context, MatrixView<const T> x, std::span<const MatrixView<Out>> ys,
             std::span<std::byte> workspace) const {
        if (ys.size() != layers_.size()) {
            throw ShapeError("a group of " + std::to_string(layers_.size()) + " layers needs as many results, not " +
                             std::to_string(ys.size()));
        }
        if (layers_.empty()) return;
        detail::require_workspace(workspace.size(), workspace_bytes(context, x.rows()), x.rows());
        std::array<cpu::ForwardLayer<T, Out>, kMaxLayers> parts{};
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            std::visit(
                [&](const auto& layer) {
                    detail::require_fit(layer.d_in(), layer.d_out(), x, ys[i]);
                    parts[i] = layer.template part<Out>(ys[i]);
                },
                layers_[i]);
        }
        forward_layers<T, Out>(context, x, std::span<const cpu::ForwardLayer<T, Out>>(parts).first(layers_.size()),
                               ranks_, workspace);
    }

    std::vector<Layer> layers_;
    std::vector<std::int64_t> ranks_;  ///< of the low-rank ones
};

}  // namespace lowrank
