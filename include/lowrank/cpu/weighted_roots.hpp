// lowrank - the decomposition in a weighted norm by the roots of both weightings, for any shape and method.
// SPDX-License-Identifier: MIT
//
// See <lowrank/decompose_calibrated.hpp> for the mathematics. Here S_H = P L_H and S_G = Q L_G, so the weight is
// permuted once, M = L_H^T (P^T W Q) L_G, and its factors are permuted back.
#pragma once

#include <lowrank/calibrated_factors.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose.hpp>
#include <lowrank/cpu/entry_error.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/root_in.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/cpu/triangular.hpp>
#include <lowrank/cpu/weight_scale.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace lowrank::cpu::detail {

/// The part of the excess that rounded products in making M or its Gram matrix may take: decompose() leaves half of it
/// as a rule. With StableLM's shapes the products take 6 to 12 percent.
inline constexpr double kProductRoundingPart = 0.2;

template <ComputeScalar T>
class WeightedRoots {
public:
    template <Scalar S>
    WeightedRoots(const Context& context, MatrixView<const S> stored, const Weighting& weighting,
                  const DecomposeOptions& options)
        : context_(context),
          options_(options),
          input_(context, weighting.input.root(context),
                 options.layout == WeightLayout::in_out ? stored.rows() : stored.cols()),
          gradient_(context, weighting.gradient.root(context),
                    options.layout == WeightLayout::in_out ? stored.cols() : stored.rows()) {
        const bool in_out = options.layout == WeightLayout::in_out;
        weight_ =
            Matrix<T>::uninitialized(in_out ? stored.rows() : stored.cols(), in_out ? stored.cols() : stored.rows());
        const auto copy = [&](std::int64_t i, std::int64_t j) {
            const std::int64_t row = input_.place(i);
            const std::int64_t column = gradient_.place(j);
            weight_(i, j) = static_cast<T>(in_out ? stored(row, column) : stored(column, row));
        };
        // A transpose reads and writes blocks that the first-level cache holds.
        context.parallel_for(ceil_div(weight_.rows(), kBlock), [&](std::int64_t part) {
            const std::int64_t end = std::min((part + 1) * kBlock, weight_.rows());
            for (std::int64_t j0 = 0; j0 < weight_.cols(); j0 += kBlock) {
                for (std::int64_t i = part * kBlock; i < end; ++i) {
                    for (std::int64_t j = j0; j < std::min(j0 + kBlock, weight_.cols()); ++j) copy(i, j);
                }
            }
        });
    }

    CalibratedFactors<T> run() const {
        const bool weighs = !input_.identity() || !gradient_.identity();
        const bool rounds = weighs && rounding_variance<T>(context_.isa()) > 0 &&
                            fast_may_serve(weight_.rows(), weight_.cols(), options_);
        Matrix<T> m = weighted(rounds ? Operands::rounded : Operands::exact);
        // M^T = W1' W2' with orthonormal W1': the right singular vectors of M, orthonormal even where M has no rank.
        DecomposeOptions inner = options_;
        inner.layout = WeightLayout::out_in;
        Factors<T> right = decompose_weight(context_, const_view(m), inner);
        if (rounds) {
            const double lost = lost_to_rounding(m, right);
            right.excess += lost;
            // The exact method has none, and its caller wants none.
            if (right.method == Method::exact || !(lost <= kProductRoundingPart * options_.excess) ||
                !(right.excess <= options_.excess)) {
                m = weighted(Operands::exact);
                right = decompose_weight(context_, const_view(m), inner);
            }
        }

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
        return factors;
    }

private:
    static constexpr std::int64_t kBlock = 64;

    /// M, its rows and columns in the order of the roots.
    [[nodiscard]] Matrix<T> weighted(Operands operands) const {
        Matrix<T> left =
            input_.identity() ? weight_ : lower_transposed_times(context_, input_.lower(), weight_.view(), operands);
        if (gradient_.identity()) return left;
        return times_lower(context_, const_view(left), gradient_.lower(), operands);
    }

    /// What the errors of M cost of the excess. Of mean square s^2 and as good as random, they turn each wanted
    /// direction towards each other one, at the cost of s^2 (theta + mu) / (theta - mu) of the energy
    /// (lost_by_turning(), of M^T M): at most kNear s^2 on average, unless the spectrum is all but flat. Where they are
    /// all along one direction, as where one of the inputs outgrows the others, they may cost their whole energy.
    [[nodiscard]] double lost_to_rounding(const Matrix<T>& m, const Factors<T>& right) const {
        constexpr double kNear = 32;
        constexpr std::int64_t kProbes = 8;
        const Matrix<double> probes = random_probes(m.cols(), kProbes, ~options_.seed);
        Matrix<double> v = probes;
        if (!gradient_.identity()) v = lower_times(context_, gradient_.template lower<double>(), const_view(v));
        Matrix<double> image(m.rows(), kProbes);
        gemm(context_, 1.0, weight_, Transpose::no, v, Transpose::no, 0.0, image.view());
        if (!input_.identity()) {
            image = lower_transposed_times(context_, input_.template lower<double>(), const_view(image));
        }
        const double square = mean_square_error(context_, m, probes, std::move(image));
        const auto turned =
            static_cast<double>(right.rank()) * static_cast<double>(std::max(m.rows(), m.cols()) - right.rank());
        const double tail = right.relative_error * right.relative_error * squared_norm(context_, const_view(m));
        const double entries = static_cast<double>(m.rows()) * static_cast<double>(m.cols());
        return square * std::max(kNear * turned, entries) / (2 * tail);
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
        auto result = Matrix<T>::uninitialized(v.cols(), v.rows());
        context_.parallel_for(ceil_div(v.rows(), kBlock), [&](std::int64_t part) {
            const std::int64_t end = std::min((part + 1) * kBlock, v.rows());
            for (std::int64_t k = 0; k < v.cols(); ++k) {
                for (std::int64_t j = part * kBlock; j < end; ++j) result(k, j) = v(j, k);
            }
        });
        return result;
    }

    const Context& context_;
    const DecomposeOptions& options_;
    RootIn<T> input_;
    RootIn<T> gradient_;
    Matrix<T> weight_;  // P^T W Q
};

}  // namespace lowrank::cpu::detail
