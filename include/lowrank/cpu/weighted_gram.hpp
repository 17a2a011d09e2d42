// lowrank - the weighted weight's Gram matrix on its shorter side, without the root of the longer side's weighting.
// SPDX-License-Identifier: MIT
//
// A is the weight or its transpose, m x n with m <= n; S S^T weighs its shorter side, N the longer one. The left
// singular vectors of M = S^T A N^1/2 are the eigenvectors U of
//
//     K = M M^T = S^T P S,   P = A N A^T,
//
// and with their eigenvalues Theta the best approximation U U^T M of M is that of
//
//     A ~ (P S U Theta^-1/2) (Theta^-1/2 U^T S^T A),
//
// which takes neither the root of N nor an inverse. With N = L + L^T, L its lower triangle with half the diagonal,
// P = Y + Y^T, Y = A L A^T: m n^2 + 2 m^2 n operations. The root alone takes n^3 / 3 in double, and M, its Gram matrix
// and the solution for a factor m n^2 + m^2 n + r n^2.
//
// U are Ritz vectors, K U = U Theta + R, and the approximation is (U Theta + R) Theta^-1 U^T M: its squared distance
// from M is by ||R Theta^-1/2||^2 less than that of U U^T M (expand it; R^T U = 0), as after another half power
// iteration.
//
// Accuracy. Squares are what K has: where a leading singular value of M is more than some thousand times the last
// wanted one, the rounding of K hides the latter. How large that rounding is, is measured: K v against the same product
// in double, for random v (entry_error()).
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/entry_error.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/root_in.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/cpu/symmetric_operator.hpp>
#include <lowrank/cpu/triangular.hpp>
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

/// K, and factors from its eigenvectors.
template <ComputeScalar T>
class WeightedGram {
public:
    /// `stored` times 2^-exponent is A, or its transpose where it has more rows than columns. `longer` must know its
    /// moments.
    WeightedGram(const Context& context, MatrixView<const T> stored, int exponent, const RootIn<T>& shorter,
                 const SideWeighting& longer)
        : context_(context),
          stored_(stored),
          tall_(stored.rows() > stored.cols()),
          scale_(std::ldexp(T{1}, -exponent)),
          root_(shorter),
          longer_(longer) {
        // A power of two that brings N's diagonal to 1 at most, as in gram_root().
        const Moments& moments = *longer.moments();
        double largest = 0;
        for (std::int64_t i = 0; i < moments.width(); ++i) largest = std::max(largest, moments.gram()(i, i));
        const double root = std::sqrt(largest / longer.tokens() + longer.added());
        int long_exponent = 0;
        if (is_finite(root)) static_cast<void>(std::frexp(root, &long_exponent));
        factor_ = std::ldexp(1 / longer.tokens(), -2 * long_exponent);
        added_ = std::ldexp(longer.added(), -2 * long_exponent);
        exponent_ = exponent + root_.exponent() + long_exponent;
        form_product();
        k_ = root_.congruence(p_);
    }

    [[nodiscard]] MatrixView<const T> matrix() const { return k_.view(); }
    /// ||M||_F^2
    [[nodiscard]] double trace() const {
        double sum = 0;
        for (std::int64_t i = 0; i < k_.rows(); ++i) sum += static_cast<double>(k_(i, i));
        return sum;
    }
    /// M's singular values are 2^exponent times the square roots of K's eigenvalues.
    [[nodiscard]] int exponent() const { return exponent_; }

    /// The mean square of the errors of K's entries.
    [[nodiscard]] double entry_error(std::uint64_t seed) const {
        const std::int64_t m = k_.rows();
        constexpr std::int64_t kProbes = 2;
        const Matrix<double> v = random_probes(m, kProbes, ~seed);
        const auto scaled = static_cast<double>(scale_);
        Matrix<double> along(long_side(), kProbes);
        gemm(context_, scaled, stored_, flag(true), root_.times(v), Transpose::no, 0.0, along.view());
        Matrix<double> weighed(long_side(), kProbes);
        gemm(context_, factor_, longer_.moments()->gram(), Transpose::no, along, Transpose::no, 0.0, weighed.view());
        for (std::int64_t i = 0; i < weighed.rows(); ++i) {
            for (std::int64_t k = 0; k < kProbes; ++k) weighed(i, k) += added_ * along(i, k);
        }
        Matrix<double> image(m, kProbes);
        gemm(context_, scaled, stored_, flag(false), weighed, Transpose::no, 0.0, image.view());
        return mean_square_error(context_, k_, v, root_.transposed_times(image));
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
        const T unscale = T{1} / scale_;
        if (shorter_is_input) {
            const Matrix<T> su = root_.times(scaled_vectors(pairs, rank, -0.5));
            to.w1 = Matrix<T>::uninitialized(p_.rows(), rank);
            to.w2 = Matrix<T>::uninitialized(rank, long_side());
            gemm(context_, unscale, p_, Transpose::no, su, Transpose::no, T{0}, to.w1.view());
            gemm(context_, scale_, su, Transpose::yes, stored_, flag(false), T{0}, to.w2.view());
        } else {
            to.w1 = Matrix<T>::uninitialized(long_side(), rank);
            to.w2 = Matrix<T>::uninitialized(rank, p_.rows());
            gemm(context_, T{1}, stored_, flag(true), root_.times(scaled_vectors(pairs, rank, 0)), Transpose::no, T{0},
                 to.w1.view());
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

    [[nodiscard]] std::int64_t long_side() const { return std::max(stored_.rows(), stored_.cols()); }

    /// Columns [begin, end) of A as they are stored, and whether that is their transpose.
    [[nodiscard]] MatrixView<const T> columns(std::int64_t begin, std::int64_t end) const {
        return tall_ ? stored_.block(begin, 0, end - begin, stored_.cols())
                     : stored_.block(0, begin, stored_.rows(), end - begin);
    }
    [[nodiscard]] Transpose flag(bool transposed) const { return transposed == tall_ ? Transpose::no : Transpose::yes; }

    /// P = A N A^T, block by block of L's columns.
    void form_product() {
        const std::int64_t m = std::min(stored_.rows(), stored_.cols());
        const std::int64_t n = long_side();
        const std::int64_t block = triangle_block(n);
        const MatrixView<const double> gram = longer_.moments()->gram();
        auto y = Matrix<T>::uninitialized(m, m);
        auto lower = Matrix<T>::uninitialized(n, block);
        auto product = Matrix<T>::uninitialized(m, block);
        for (std::int64_t begin = 0; begin < n; begin += block) {
            const std::int64_t end = std::min(begin + block, n);
            const auto part = lower.view().block(begin, 0, n - begin, end - begin);
            context_.parallel_for(n - begin, [&](std::int64_t i) {
                const double* from = gram.row(begin + i) + begin;
                for (std::int64_t j = 0; j < std::min(i, part.cols()); ++j)
                    part(i, j) = static_cast<T>(from[j] * factor_);
                for (std::int64_t j = i; j < part.cols(); ++j) {
                    part(i, j) = i == j ? static_cast<T>((from[j] * factor_ + added_) / 2) : T{0};
                }
            });
            const auto al = product.view().block(0, 0, m, end - begin);
            gemm(context_, scale_, columns(begin, n), flag(false), MatrixView<const T>(part), Transpose::no, T{0}, al);
            gemm(context_, scale_, MatrixView<const T>(al), Transpose::no, columns(begin, end), flag(true),
                 begin == 0 ? T{0} : T{1}, y.view());
        }
        p_ = Matrix<T>::uninitialized(m, m);
        constexpr std::int64_t kBlock = 64;  // rows whose columns stay in the cache
        context_.parallel_for(ceil_div(m, kBlock), [&](std::int64_t part) {
            for (std::int64_t j0 = 0; j0 < m; j0 += kBlock) {
                for (std::int64_t i = part * kBlock; i < std::min((part + 1) * kBlock, m); ++i) {
                    for (std::int64_t j = j0; j < std::min(j0 + kBlock, m); ++j) p_(i, j) = y(i, j) + y(j, i);
                }
            }
        });
    }

    const Context& context_;
    MatrixView<const T> stored_;
    bool tall_;
    T scale_;
    const RootIn<T>& root_;
    const SideWeighting& longer_;
    double factor_, added_;  ///< N = factor sums + added I, in the scale in which its diagonal is 1 at most
    int exponent_;
    Matrix<T> p_, k_;
};

}  // namespace lowrank::cpu::detail
