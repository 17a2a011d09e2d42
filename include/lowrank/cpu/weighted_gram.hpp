// lowrank - the weighted weight's Gram matrix on its shorter side, without the root of the longer side's weighting.
// SPDX-License-Identifier: MIT
//
// A is the weight or its transpose, m x n with m <= n; S S^T weighs its shorter side, N the longer one (long_side.hpp).
// The left singular vectors of M = S^T A N^1/2 are the eigenvectors U of
//
//     K = M M^T = S^T P S,   P = A N A^T,
//
// and with their eigenvalues Theta the best approximation U U^T M of M is that of
//
//     A ~ (P S U Theta^-1/2) (Theta^-1/2 U^T S^T A),
//
// which takes neither the root of N nor an inverse. P takes m n^2 + 2 m^2 n operations; the root alone n^3 / 3 in
// double, and M, its Gram matrix and the solution for a factor m n^2 + m^2 n + r n^2.
//
// U are Ritz vectors, K U = U Theta + R, and the approximation is (U Theta + R) Theta^-1 U^T M: its squared distance
// from M is by ||R Theta^-1/2||^2 less than that of U U^T M (expand it; R^T U = 0), as after another half power
// iteration.
//
// Accuracy. Squares are what K has: where a leading singular value of M is more than some thousand times the last
// wanted one, the rounding of K hides the latter. How large that rounding is, is measured: K v against the same product
// in double, for random v (entry_error()).
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/entry_error.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/long_side.hpp>
#include <lowrank/cpu/root_in.hpp>
#include <lowrank/cpu/symmetric_operator.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>
#include <lowrank/subspace_model.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank::cpu::detail {

/// K, and factors from its eigenvectors. Borrows what it is made of.
template <ComputeScalar T>
class WeightedGram {
public:
    WeightedGram(const Context& context, const LongSide<T>& longer, const RootIn<T>& shorter, Operands operands)
        : context_(context), longer_(longer), root_(shorter), p_(longer.product(operands)), k_(root_.congruence(p_)) {}

    [[nodiscard]] MatrixView<const T> matrix() const { return k_.view(); }
    /// n
    [[nodiscard]] std::int64_t length() const { return longer_.length(); }
    /// ||M||_F^2
    [[nodiscard]] double trace() const {
        double sum = 0;
        for (std::int64_t i = 0; i < k_.rows(); ++i) sum += static_cast<double>(k_(i, i));
        return sum;
    }
    /// M's singular values are 2^exponent times the square roots of K's eigenvalues.
    [[nodiscard]] int exponent() const { return longer_.exponent() + root_.exponent(); }

    /// The mean square of the errors of K's entries.
    [[nodiscard]] double entry_error(std::uint64_t seed) const {
        constexpr std::int64_t kProbes = 2;
        const Matrix<double> v = random_probes(k_.rows(), kProbes, ~seed);
        return mean_square_error(context_, k_, v, root_.transposed_times(longer_.product_times(root_.times(v))));
    }

    /// Of the energy of the leading eigenvectors, and of the factors that are made of them: what the rounding of K
    /// costs, by the mean square of its entries' errors.
    [[nodiscard]] static double lost_to_rounding(const std::vector<double>& theta,
                                                 const lowrank::detail::SubspaceProblem& problem, double square) {
        const double mean = lowrank::detail::mean_outside(theta, problem);
        double lost =
            lowrank::detail::lost_by_turning(theta, problem, mean, [&](double /*x*/, double /*mu*/) { return square; });
        // K U Theta^-1/2 in the place of U Theta^1/2 as the first factor.
        for (std::int64_t i = 0; i < problem.rank; ++i) {
            lost += square * static_cast<double>(problem.order) / theta[static_cast<std::size_t>(i)];
        }
        return lost;
    }

    /// ||M||^2 without what factors of the leading `rank` pairs have of it.
    [[nodiscard]] double tail(const LeadingPairs<T>& pairs, std::int64_t rank) const {
        double left = trace();
        for (std::size_t k = 0; k < static_cast<std::size_t>(rank); ++k) {
            const double theta = pairs.ritz_values[k];
            left -= theta;
            if (theta > 0) left -= pairs.residuals[k] / theta;
        }
        return std::max(left, 0.0);
    }

    /// W1 = W S_G V and W2 = V^T S_G^-1 in effect, V the leading `rank` right singular vectors of M in the order of
    /// d_in x d_out: the same sizes of entries whichever side is the shorter one, as 16-bit types need them.
    void write_factors(const LeadingPairs<T>& pairs, std::int64_t rank, bool shorter_is_input, Factors<T>& to) const {
        const MatrixView<const T> stored = longer_.stored();
        const T scale = longer_.scale();
        if (shorter_is_input) {
            const Matrix<T> su = root_.times(scaled_vectors(pairs, rank, -0.5));
            to.w1 = Matrix<T>::uninitialized(p_.rows(), rank);
            to.w2 = Matrix<T>::uninitialized(rank, longer_.length());
            gemm(context_, T{1} / scale, p_, Transpose::no, su, Transpose::no, T{0}, to.w1.view());
            gemm(context_, scale, su, Transpose::yes, stored, longer_.plain(), T{0}, to.w2.view());
        } else {
            to.w1 = Matrix<T>::uninitialized(longer_.length(), rank);
            to.w2 = Matrix<T>::uninitialized(rank, p_.rows());
            gemm(context_, T{1}, stored, longer_.transposed(), root_.times(scaled_vectors(pairs, rank, 0)),
                 Transpose::no, T{0}, to.w1.view());
            gemm(context_, T{1}, root_.times(scaled_vectors(pairs, rank, -1)), Transpose::yes, p_, Transpose::no, T{0},
                 to.w2.view());
        }
    }

private:
    /// U Theta^power; 0 where theta is.
    [[nodiscard]] static Matrix<T> scaled_vectors(const LeadingPairs<T>& pairs, std::int64_t rank, double power) {
        std::vector<T> factors(static_cast<std::size_t>(rank));
        for (std::size_t k = 0; k < factors.size(); ++k) {
            const double theta = pairs.ritz_values[k];
            factors[k] = theta > 0 ? static_cast<T>(std::pow(theta, power)) : T{0};
        }
        auto scaled = Matrix<T>::uninitialized(pairs.vectors.rows(), rank);
        for (std::int64_t i = 0; i < scaled.rows(); ++i) {
            for (std::int64_t k = 0; k < rank; ++k) {
                scaled(i, k) = pairs.vectors(i, k) * factors[static_cast<std::size_t>(k)];
            }
        }
        return scaled;
    }

    const Context& context_;
    const LongSide<T>& longer_;
    const RootIn<T>& root_;
    Matrix<T> p_, k_;
};

}  // namespace lowrank::cpu::detail
