// lowrank - LowRankLinear<T>: a factored linear layer, Y = (X W1) W2 + b.
// SPDX-License-Identifier: MIT
//
// X is n x d_in (rows are tokens), W1 d_in x r, W2 r x d_out, b has d_out entries, Y is n x d_out, all row-major.
// A forward costs 2 n r (d_in + d_out) operations instead of 2 n d_in d_out.
//
// T is the storage type of weights and activations: float, double, bf16 or f16. Products accumulate, and X W1 is kept,
// in float (double for double). A layer does not change after it is made, so threads may share one, each with its own
// workspace. forward() with a span allocates nothing.
//
//     lowrank::LowRankLinear<lowrank::bf16> q_proj(factors, bias);
//     lowrank::Workspace workspace(q_proj.workspace_bytes(cpu, 512));
//     q_proj.forward(cpu, X, Y, workspace);
#pragma once

#include <lowrank/cpu/forward.hpp>
#include <lowrank/cpu/packed_weight.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/workspace.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <vector>

namespace lowrank {

/// std::vector, std::span, std::array, ... of a Scalar type: what a bias may be given as.
template <class B>
concept ScalarRange = requires(const B& b) {
    std::data(b);
    std::size(b);
}
&&Scalar<std::remove_cvref_t<decltype(*std::data(std::declval<const B&>()))>>;

template <Scalar T, class Space = HostSpace>
class LowRankLinear;

template <Scalar T>
class LowRankLinear<T, HostSpace> {
public:
    using Compute = compute_t<T>;

    /// From factors; their entries are rounded to T. `bias` has d_out entries, or none for no bias.
    /// Throws ShapeError if the sizes do not fit.
    template <ComputeScalar C, ScalarRange Bias = std::span<const T>>
    explicit LowRankLinear(const Factors<C>& factors, const Bias& bias = {})
        : LowRankLinear(rounded(factors.w1).view(), rounded(factors.w2).view(), WeightLayout::in_out, bias) {}

    /// From stored factors: W1 (d_in x r) and W2 (r x d_out), or with WeightLayout::out_in their transposes, r x d_in
    /// and d_out x r. A checkpoint of `compress` holds the latter: NAME.w2 is W1^T and NAME.w1 is W2^T.
    template <ScalarRange Bias = std::span<const T>>
    LowRankLinear(MatrixView<const T> w1, MatrixView<const T> w2, WeightLayout layout, const Bias& bias = {})
        : w1_(w1, layout), w2_(w2, layout) {
        if (w1_.cols() != w2_.rows()) {
            throw ShapeError("the factors do not fit together: W1 is " + shape_string(w1_.rows(), w1_.cols()) +
                             ", W2 is " + shape_string(w2_.rows(), w2_.cols()) + "; d_in x r and r x d_out are needed");
        }
        const auto count = static_cast<std::int64_t>(std::size(bias));
        if (count != 0 && count != d_out()) {
            throw ShapeError("a bias of " + std::to_string(count) +
                             " entries does not fit d_out = " + std::to_string(d_out()));
        }
        bias_.reserve(std::size(bias));
        for (const auto& entry : bias) bias_.push_back(static_cast<Compute>(entry));
    }

    /// Straight from a weight: decompose(context, weight, options), then as above. Needs <lowrank/decompose.hpp>.
    template <class Context, class Weight, ScalarRange Bias = std::span<const T>>
    requires Scalar<element_t<Weight>> LowRankLinear(Context& context, const Weight& weight,
                                                     const DecomposeOptions& options, const Bias& bias = {})
        : LowRankLinear(decompose(context, weight, options), bias) {}

    [[nodiscard]] std::int64_t d_in() const { return w1_.rows(); }
    [[nodiscard]] std::int64_t d_out() const { return w2_.cols(); }
    [[nodiscard]] std::int64_t rank() const { return w1_.cols(); }
    [[nodiscard]] std::int64_t parameters() const {
        return low_rank_parameters(d_in(), d_out(), rank()) + static_cast<std::int64_t>(bias_.size());
    }
    /// Bytes that the packed factors occupy, padding included.
    [[nodiscard]] std::size_t weight_bytes() const { return w1_.bytes() + w2_.bytes(); }

    /// The factors as stored in T, bit for bit.
    [[nodiscard]] Matrix<T> w1() const { return w1_.unpack(); }
    [[nodiscard]] Matrix<T> w2() const { return w2_.unpack(); }
    [[nodiscard]] std::span<const Compute> bias() const { return bias_; }

    /// Bytes of workspace that forward() needs for up to `rows` rows in this context.
    template <class Context>
    [[nodiscard]] std::size_t workspace_bytes(const Context& context, std::int64_t rows) const {
        return low_rank_workspace_bytes<T>(context, rows, d_in(), rank(), d_out());
    }

    /// Y = (X W1) W2 + b, in T. Any number of rows, also 0; X and Y may be strided and must not overlap. Throws
    /// ShapeError if a size does not fit or the workspace is below workspace_bytes(); otherwise allocates and throws
    /// nothing.
    template <class Context>
    void forward(const Context& context, MatrixView<const T> x, MatrixView<T> y, std::span<std::byte> workspace) const {
        run(context, x, y, workspace);
    }

    /// The same with the result in float, for bf16 and f16.
    template <class Context>
    requires(!ComputeScalar<T>) void forward(const Context& context, MatrixView<const T> x, MatrixView<Compute> y,
                                             std::span<std::byte> workspace) const {
        run(context, x, y, workspace);
    }

    /// The same with a workspace that grows when it has to.
    template <class Context>
    void forward(const Context& context, MatrixView<const T> x, MatrixView<T> y, Workspace& workspace) const {
        run(context, x, y, workspace.reserve(workspace_bytes(context, x.rows())));
    }
    template <class Context>
    requires(!ComputeScalar<T>) void forward(const Context& context, MatrixView<const T> x, MatrixView<Compute> y,
                                             Workspace& workspace) const {
        run(context, x, y, workspace.reserve(workspace_bytes(context, x.rows())));
    }

    /// For trying things out: allocates the result and the workspace.
    template <class Context>
    [[nodiscard]] Matrix<T> forward(const Context& context, MatrixView<const T> x) const {
        Matrix<T> y(x.rows(), d_out());
        Workspace workspace;
        forward(context, x, y.view(), workspace);
        return y;
    }

private:
    template <ComputeScalar C>
    static Matrix<T> rounded(const Matrix<C>& source) {
        Matrix<T> target(source.rows(), source.cols());
        for (std::int64_t i = 0; i < source.rows(); ++i) {
            for (std::int64_t j = 0; j < source.cols(); ++j) target(i, j) = static_cast<T>(source(i, j));
        }
        return target;
    }

    template <class Context, class Out>
    void run(const Context& context, MatrixView<const T> x, MatrixView<Out> y, std::span<std::byte> workspace) const {
        if (x.cols() != d_in() || y.cols() != d_out() || x.rows() != y.rows()) {
            throw ShapeError("a layer of " + shape_string(d_in(), d_out()) + " cannot map X, " +
                             shape_string(x.rows(), x.cols()) + ", to Y, " + shape_string(y.rows(), y.cols()));
        }
        const std::size_t needed = workspace_bytes(context, x.rows());
        if (workspace.size() < needed) {
            throw ShapeError("a workspace of " + std::to_string(workspace.size()) +
                             " bytes is too small: forward() of " + std::to_string(x.rows()) + " rows needs " +
                             std::to_string(needed));
        }
        if (y.empty()) return;
        low_rank_forward<T, Out>(context, x, w1_, w2_, bias_.empty() ? nullptr : bias_.data(), y, workspace);
    }

    cpu::PackedWeight<T> w1_;
    cpu::PackedWeight<T> w2_;
    std::vector<Compute> bias_;
};

}  // namespace lowrank
