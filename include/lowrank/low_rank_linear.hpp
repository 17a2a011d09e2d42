// lowrank - LowRankLinear<T>: a factored linear layer, Y = (X W1) W2 + b.
// SPDX-License-Identifier: MIT
//
// X is n x d_in (rows are tokens), W1 d_in x r, W2 r x d_out, b has d_out entries, Y is n x d_out, all row-major.
// A forward costs 2 n r (d_in + d_out) operations instead of 2 n d_in d_out.
//
// T is the storage type of weights and activations: float, double, bf16 or f16. Products accumulate in float (double
// for double), and X W1 is kept in it, with one exception: on the level avx512_bf16, bf16 layers round X W1 to bf16
// from 5 rows on, as two chained bf16 layers do, because the second product then runs twice as fast. Intermediate::full
// in the context's options keeps it in float there too. Elementwise, with u the unit roundoff of float and u' = 2^-8
// that of bf16, gamma = n u / (1 - n u), n = d_in + r + 2, before the one rounding to the type of Y:
//
//     |error| <= gamma (|X| |W1| |W2| + |b|)                          X W1 in float
//     |error| <= that, and u' (|X W1| |W2| + gamma |X| |W1| |W2|)     X W1 rounded
//
// (Higham 2002, section 3.5.) NaN and infinity propagate as in those sums. A layer does not change after it is made, so
// threads may share one, each with its own workspace. forward() with a span allocates nothing. The result is equal in
// bits for any number of threads. docs/forward.md has more.
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
#include <lowrank/layer.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lowrank {

template <Scalar T, class Space = HostSpace>
class LowRankLinear;

template <Scalar T>
class LowRankLinear<T, HostSpace> : public detail::LayerForward<LowRankLinear<T, HostSpace>, T> {
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
        : w1_(w1, layout), w2_(w2, layout), bias_(detail::layer_bias<T>(bias, w2_.cols())) {
        if (w1_.cols() != w2_.rows()) {
            throw ShapeError("the factors do not fit together: W1 is " + shape_string(w1_.rows(), w1_.cols()) +
                             ", W2 is " + shape_string(w2_.rows(), w2_.cols()) + "; d_in x r and r x d_out are needed");
        }
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

    /// This layer as one of those that share an X: see LinearGroup.
    template <class Out>
    [[nodiscard]] cpu::ForwardLayer<T, Out> part(MatrixView<Out> y) const {
        return {&w1_, &w2_, bias_.empty() ? nullptr : bias_.data(), y};
    }

private:
    friend detail::LayerForward<LowRankLinear, T>;

    template <ComputeScalar C>
    static Matrix<T> rounded(const Matrix<C>& source) {
        Matrix<T> target(source.rows(), source.cols());
        for (std::int64_t i = 0; i < source.rows(); ++i) {
            for (std::int64_t j = 0; j < source.cols(); ++j) {
                target(i, j) = static_cast<T>(source(i, j));
                if (is_finite(target(i, j)) || !is_finite(source(i, j))) continue;
                throw ValueError("a factor of " + shape_string(source.rows(), source.cols()) + " has the entry " +
                                 std::to_string(source(i, j)) + " at row " + std::to_string(i) + ", column " +
                                 std::to_string(j) + ", which overflows the layer's type: scale the weight down or " +
                                 "store it as bf16 or float");
            }
        }
        return target;
    }

    template <class Context, class Out>
    void run(const Context& context, MatrixView<const T> x, MatrixView<Out> y, std::span<std::byte> workspace) const {
        low_rank_forward<T, Out>(context, x, w1_, w2_, bias_.empty() ? nullptr : bias_.data(), y, workspace);
    }

    cpu::PackedWeight<T> w1_;
    cpu::PackedWeight<T> w2_;
    std::vector<Compute> bias_;
};

}  // namespace lowrank
