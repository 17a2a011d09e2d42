// lowrank - the decomposition in a weighted norm on the CPU: weight and roots in, factors out.
// SPDX-License-Identifier: MIT
//
// See <lowrank/decompose_calibrated.hpp> for the mathematics. Here S_H = P L_H and S_G = Q L_G, so the weight is
// permuted once, M = L_H^T (P^T W Q) L_G, and its factors are permuted back.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/gram_root.hpp>
#include <lowrank/cpu/triangular.hpp>
#include <lowrank/cpu/weight_scale.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/rank.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace lowrank {

/// Factors that are closest in a weighted norm ||A||_w = ||S_H^T A S_G||_F; `excess` refers to that norm, and
/// `relative_error` is the plain one, ||W - W1 W2||_F / ||W||_F. `singular_values` are in `weighted` instead.
template <ComputeScalar T>
struct CalibratedFactors : Factors<T> {
    double weighted_error = 0;     ///< ||W - W1 W2||_w / ||W||_w; 0 for a zero weight
    double weighted_norm = 0;      ///< ||W||_w, for H and G that are means over tokens
    std::vector<double> spectrum;  ///< singular values of S_H^T W S_G as `singular_values` would be, in the same scale
};

}  // namespace lowrank

namespace lowrank::cpu {

/// Roots of H and of the damped G; null or zero ones weigh like the identity. Borrowed: layers that read the same
/// input share its root.
struct Weighting {
    const GramRoot* input = nullptr;
    const GramRoot* gradient = nullptr;
};

namespace detail {

/// A root's triangle in the type that is computed in, or the identity.
template <ComputeScalar T>
class Side {
public:
    Side(const Context& context, const GramRoot* root, std::int64_t width) {
        if (root == nullptr || root->zero()) {
            order_.resize(static_cast<std::size_t>(width));
            std::iota(order_.begin(), order_.end(), std::int64_t{0});
            return;
        }
        identity_ = false;
        order_ = root->order;
        exponent_ = root->exponent;
        lower_ = Matrix<T>::uninitialized(width, width);
        context.parallel_for(width, [&](std::int64_t i) {
            std::transform(root->lower.row(i), root->lower.row(i) + width, lower_.row(i),
                           [](double value) { return static_cast<T>(value); });
        });
    }

    [[nodiscard]] bool identity() const { return identity_; }
    [[nodiscard]] MatrixView<const T> lower() const { return lower_.view(); }
    /// Where the entry that is i-th here is in the weight.
    [[nodiscard]] std::int64_t place(std::int64_t i) const { return order_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] int exponent() const { return exponent_; }

private:
    bool identity_ = true;
    Matrix<T> lower_;
    std::vector<std::int64_t> order_;
    int exponent_ = 0;
};

template <ComputeScalar T>
class WeightedDecomposition {
public:
    template <Scalar S>
    WeightedDecomposition(const Context& context, MatrixView<const S> stored, const Weighting& weighting,
                          const DecomposeOptions& options)
        : context_(context),
          options_(options),
          input_(context, weighting.input, options.layout == WeightLayout::in_out ? stored.rows() : stored.cols()),
          gradient_(context, weighting.gradient,
                    options.layout == WeightLayout::in_out ? stored.cols() : stored.rows()) {
        const bool in_out = options.layout == WeightLayout::in_out;
        weight_ =
            Matrix<T>::uninitialized(in_out ? stored.rows() : stored.cols(), in_out ? stored.cols() : stored.rows());
        context.parallel_for(weight_.rows(), [&](std::int64_t i) {
            const std::int64_t row = input_.place(i);
            for (std::int64_t j = 0; j < weight_.cols(); ++j) {
                const std::int64_t column = gradient_.place(j);
                weight_(i, j) = static_cast<T>(in_out ? stored(row, column) : stored(column, row));
            }
        });
    }

    CalibratedFactors<T> run() const {
        const Matrix<T> m = weighted();
        // M^T = W1' W2' with orthonormal W1': the right singular vectors of M, orthonormal even where M has no rank.
        DecomposeOptions inner = options_;
        inner.layout = WeightLayout::out_in;
        Factors<T> right = decompose_weight(context_, m.view(), inner);

        CalibratedFactors<T> factors;
        factors.method = right.method;
        factors.excess = right.excess;
        factors.weighted_error = right.relative_error;
        const int exponent = input_.exponent() + gradient_.exponent();
        factors.weighted_norm = std::ldexp(std::sqrt(squared_norm(context_, const_view(m))), exponent);
        for (const T s : right.singular_values) {
            factors.spectrum.push_back(std::ldexp(static_cast<double>(s), exponent));
        }
        recover(right.w1, factors);
        factors.relative_error = plain_error(factors);
        return factors;
    }

private:
    /// M, its rows and columns in the order of the roots.
    [[nodiscard]] Matrix<T> weighted() const {
        Matrix<T> left = input_.identity() ? weight_ : lower_transposed_times(context_, input_.lower(), weight_.view());
        if (gradient_.identity()) return left;
        return times_lower(context_, const_view(left), gradient_.lower());
    }

    /// W1 = W S_G V, W2 = V^T S_G^-1.
    void recover(const Matrix<T>& v, CalibratedFactors<T>& factors) const {
        const std::int64_t rank = v.cols();
        auto w1 = Matrix<T>::uninitialized(weight_.rows(), rank);
        Matrix<T> w2 = transposed(v);
        if (gradient_.identity()) {
            gemm(context_, T(1), weight_, Transpose::no, v, Transpose::no, T(0), w1.view());
        } else {
            gemm(context_, T(1), weight_, Transpose::no, lower_times(context_, gradient_.lower(), v.view()),
                 Transpose::no, T(0), w1.view());
            solve_lower_from_right(context_, gradient_.lower(), w2.view());
        }
        factors.w1 = Matrix<T>::uninitialized(w1.rows(), rank);
        context_.parallel_for(w1.rows(),
                              [&](std::int64_t i) { std::copy_n(w1.row(i), rank, factors.w1.row(input_.place(i))); });
        factors.w2 = Matrix<T>::uninitialized(rank, w2.cols());
        context_.parallel_for(rank, [&](std::int64_t k) {
            for (std::int64_t j = 0; j < w2.cols(); ++j) factors.w2(k, gradient_.place(j)) = w2(k, j);
        });
    }

    [[nodiscard]] Matrix<T> transposed(const Matrix<T>& v) const {
        constexpr std::int64_t kBlock = 64;  // rows of v, whose columns then come from the cache
        auto result = Matrix<T>::uninitialized(v.cols(), v.rows());
        context_.parallel_for(ceil_div(v.rows(), kBlock), [&](std::int64_t part) {
            const std::int64_t end = std::min((part + 1) * kBlock, v.rows());
            for (std::int64_t k = 0; k < v.cols(); ++k) {
                for (std::int64_t j = part * kBlock; j < end; ++j) result(k, j) = v(j, k);
            }
        });
        return result;
    }

    [[nodiscard]] double plain_error(const CalibratedFactors<T>& factors) const {
        const double norm = squared_norm(context_, const_view(weight_));
        if (!(norm > 0)) return 0;
        auto rest = Matrix<T>::uninitialized(weight_.rows(), weight_.cols());
        context_.parallel_for(rest.rows(), [&](std::int64_t i) {
            for (std::int64_t j = 0; j < rest.cols(); ++j) rest(input_.place(i), gradient_.place(j)) = weight_(i, j);
        });
        gemm(context_, T(-1), factors.w1, Transpose::no, factors.w2, Transpose::no, T(1), rest.view());
        return std::sqrt(squared_norm(context_, const_view(rest)) / norm);
    }

    const Context& context_;
    const DecomposeOptions& options_;
    Side<T> input_;
    Side<T> gradient_;
    Matrix<T> weight_;  // P^T W Q
};

}  // namespace detail

/// Factorises a d_in x d_out weight in the norm of `weighting`, whose roots must be d_in and d_out wide.
template <Scalar S>
CalibratedFactors<compute_t<S>> decompose_weighted(const Context& context, MatrixView<const S> stored,
                                                   const Weighting& weighting, const DecomposeOptions& options) {
    const bool in_out = options.layout == WeightLayout::in_out;
    const std::int64_t d_in = in_out ? stored.rows() : stored.cols();
    const std::int64_t d_out = in_out ? stored.cols() : stored.rows();
    if (stored.empty())
        throw ShapeError(options.name + ", " + shape_string(d_in, d_out) + ", has nothing to factorise");
    if (!options.rank.needs_spectrum()) static_cast<void>(choose_rank(options.rank, d_in, d_out));
    static_cast<void>(weight_scale(context, stored, options.name));  // refuses NaN and infinity
    return detail::WeightedDecomposition<compute_t<S>>(context, stored, weighting, options).run();
}

}  // namespace lowrank::cpu
