// lowrank - what Linear<T> and LowRankLinear<T> have in common: their bias, their checks and the forms of forward().
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/workspace.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace lowrank {

/// std::vector, std::span, std::array, ... of a Scalar type: what a bias may be given as.
template <class B>
concept ScalarRange = requires(const B& b) {
    std::data(b);
    std::size(b);
}
&&Scalar<std::remove_cvref_t<decltype(*std::data(std::declval<const B&>()))>>;

namespace detail {

/// The entries in the type that a layer of T adds them in. Throws ShapeError unless there are d_out of them, or none.
template <Scalar T, ScalarRange Bias>
std::vector<compute_t<T>> layer_bias(const Bias& bias, std::int64_t d_out) {
    const auto count = static_cast<std::int64_t>(std::size(bias));
    if (count != 0 && count != d_out) {
        throw ShapeError("a bias of " + std::to_string(count) +
                         " entries does not fit d_out = " + std::to_string(d_out));
    }
    std::vector<compute_t<T>> entries;
    entries.reserve(std::size(bias));
    for (const auto& entry : bias) entries.push_back(static_cast<compute_t<T>>(entry));
    return entries;
}

inline void require_workspace(std::size_t given, std::size_t needed, std::int64_t rows) {
    if (given >= needed) return;
    throw ShapeError("a workspace of " + std::to_string(given) + " bytes is too small: forward() of " +
                     std::to_string(rows) + " rows needs " + std::to_string(needed));
}

template <class T, class Out>
void require_fit(std::int64_t d_in, std::int64_t d_out, MatrixView<const T> x, MatrixView<Out> y) {
    if (x.cols() == d_in && y.cols() == d_out && x.rows() == y.rows()) return;
    throw ShapeError("a layer of " + shape_string(d_in, d_out) + " cannot map X, " + shape_string(x.rows(), x.cols()) +
                     ", to Y, " + shape_string(y.rows(), y.cols()));
}

/// The public forms of forward(), for a Layer with d_in(), d_out(), workspace_bytes() and a private run().
template <class Layer, Scalar T>
class LayerForward {
public:
    using Compute = compute_t<T>;

    /// Y = layer(X), in T. Any number of rows, also 0; X and Y may be strided and must not overlap. Throws ShapeError
    /// if a size does not fit or the workspace is below workspace_bytes(); otherwise allocates and throws nothing.
    template <class Context>
    void forward(const Context& context, MatrixView<const T> x, MatrixView<T> y, std::span<std::byte> workspace) const {
        checked_run(context, x, y, workspace);
    }

    /// The same with the result in float, for bf16 and f16.
    template <class Context>
    requires(!ComputeScalar<T>) void forward(const Context& context, MatrixView<const T> x, MatrixView<Compute> y,
                                             std::span<std::byte> workspace) const {
        checked_run(context, x, y, workspace);
    }

    /// The same with a workspace that grows when it has to.
    template <class Context>
    void forward(const Context& context, MatrixView<const T> x, MatrixView<T> y, Workspace& workspace) const {
        checked_run(context, x, y, workspace.reserve(layer().workspace_bytes(context, x.rows())));
    }
    template <class Context>
    requires(!ComputeScalar<T>) void forward(const Context& context, MatrixView<const T> x, MatrixView<Compute> y,
                                             Workspace& workspace) const {
        checked_run(context, x, y, workspace.reserve(layer().workspace_bytes(context, x.rows())));
    }

    /// For trying things out: allocates the result and the workspace.
    template <class Context>
    [[nodiscard]] Matrix<T> forward(const Context& context, MatrixView<const T> x) const {
        Matrix<T> y(x.rows(), layer().d_out());
        Workspace workspace;
        forward(context, x, y.view(), workspace);
        return y;
    }

private:
    [[nodiscard]] const Layer& layer() const { return static_cast<const Layer&>(*this); }

    template <class Context, class Out>
    void checked_run(const Context& context, MatrixView<const T> x, MatrixView<Out> y,
                     std::span<std::byte> workspace) const {
        require_fit(layer().d_in(), layer().d_out(), x, y);
        require_workspace(workspace.size(), layer().workspace_bytes(context, x.rows()), x.rows());
        if (!y.empty()) layer().run(context, x, y, workspace);
    }
};

}  // namespace detail

}  // namespace lowrank
