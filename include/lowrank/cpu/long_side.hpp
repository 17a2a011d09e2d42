// lowrank - a weight seen from its longer side, and what weighs that: the product P = A N A^T.
// SPDX-License-Identifier: MIT
//
// A is the weight or its transpose, m x n with m <= n; N weighs its longer side. With N = L + L^T, L its lower
// triangle with half the diagonal, P = Y + Y^T, Y = A L A^T: m n^2 + 2 m^2 n operations.
//
// Rounded operands (gemm.hpp) are off by a part of their norms, and of statistics few directions often hold most: the
// mean of the gradients, outlier features. So where A and L are rounded, some leading directions of N are taken out
// first (deflation.hpp): A N A^T = A N' A^T + A V (A W)^T + A W (A V)^T. They need not be accurate: one product with
// random vectors finds what stands out. Of the energy that rounding costs SmolLM2's layers, two-sided at rank 114, they
// leave a seventh in the middle and a thousandth of the most.
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/deflation.hpp>
#include <lowrank/cpu/entry_error.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/orthonormalize.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/cpu/triangular.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace lowrank::cpu::detail {

/// A and N, each times a power of two. Borrows both.
template <ComputeScalar T>
class LongSide {
public:
    /// `stored` times 2^-exponent is A, or its transpose where it has more rows than columns. `weighting` must know its
    /// moments.
    LongSide(const Context& context, MatrixView<const T> stored, int exponent, const SideWeighting& weighting)
        : context_(context),
          stored_(stored),
          tall_(stored.rows() > stored.cols()),
          scale_(std::ldexp(T{1}, -exponent)),
          gram_(weighting.moments()->gram()) {
        // A power of two that brings N's diagonal to 1 at most, as in gram_root().
        double largest = 0;
        for (std::int64_t i = 0; i < length(); ++i) largest = std::max(largest, gram_(i, i));
        const double root = std::sqrt(largest / weighting.tokens() + weighting.added());
        int long_exponent = 0;
        if (is_finite(root)) static_cast<void>(std::frexp(root, &long_exponent));
        factor_ = std::ldexp(1 / weighting.tokens(), -2 * long_exponent);
        added_ = std::ldexp(weighting.added(), -2 * long_exponent);
        exponent_ = exponent + long_exponent;
    }

    /// m
    [[nodiscard]] std::int64_t order() const { return std::min(stored_.rows(), stored_.cols()); }
    /// n
    [[nodiscard]] std::int64_t length() const { return std::max(stored_.rows(), stored_.cols()); }
    /// The root of P is that of the unscaled one times 2^-exponent.
    [[nodiscard]] int exponent() const { return exponent_; }

    /// What the weight as it is stored is multiplied by, and whether that is A or its transpose.
    [[nodiscard]] T scale() const { return scale_; }
    [[nodiscard]] MatrixView<const T> stored() const { return stored_; }
    [[nodiscard]] Transpose plain() const { return tall_ ? Transpose::yes : Transpose::no; }
    [[nodiscard]] Transpose transposed() const { return tall_ ? Transpose::no : Transpose::yes; }

    /// P x, in double throughout.
    [[nodiscard]] Matrix<double> product_times(const Matrix<double>& x) const {
        Matrix<double> along(length(), x.cols());
        gemm(context_, scale_, stored_, transposed(), x, Transpose::no, 0.0, along.view());
        const Matrix<double> weighed = weighting_times(along);
        Matrix<double> image(order(), x.cols());
        gemm(context_, scale_, stored_, plain(), weighed, Transpose::no, 0.0, image.view());
        return image;
    }

    /// P, exactly symmetric, by the lower triangle of N block by block of its columns.
    [[nodiscard]] Matrix<T> product(Operands operands) const {
        const std::int64_t m = order();
        const std::int64_t n = length();
        const std::int64_t block = triangle_block(n);
        Deflation<T> leading;
        if (operands == Operands::rounded && n > kLeading) leading = leading_directions();
        auto y = Matrix<T>::uninitialized(m, m);
        auto lower = Matrix<T>::uninitialized(n, block);
        auto al = Matrix<T>::uninitialized(m, block);
        for (std::int64_t begin = 0; begin < n; begin += block) {
            const std::int64_t end = std::min(begin + block, n);
            const auto part = lower.view().block(begin, 0, n - begin, end - begin);
            copy_lower(begin, leading, part);
            const auto left = al.view().block(0, 0, m, end - begin);
            gemm(context_, scale_, columns(begin, n), plain(), MatrixView<const T>(part), Transpose::no, T{0}, left,
                 operands);
            gemm(context_, scale_, MatrixView<const T>(left), Transpose::no, columns(begin, end), transposed(),
                 begin == 0 ? T{0} : T{1}, y.view(), operands);
        }
        if (!leading.empty()) {
            auto a_vw = Matrix<T>::uninitialized(m, leading.vw().cols());
            gemm(context_, scale_, stored_, plain(), leading.vw(), Transpose::no, T{0}, a_vw.view());
            const std::int64_t d = a_vw.cols() / 2;
            gemm(context_, T{1}, const_view(a_vw).block(0, 0, m, d), Transpose::no, const_view(a_vw).block(0, d, m, d),
                 Transpose::yes, T{1}, y.view());
        }
        return with_transpose(y);
    }

private:
    /// Directions taken out. On StableLM's gate_proj with statistics of which one direction holds half, the rest's
    /// rounding costs 0.5 % of the error after one of them, at most 0.01 % after four, 0.0025 % after eight.
    static constexpr std::int64_t kLeading = 8;

    /// N v
    [[nodiscard]] Matrix<double> weighting_times(const Matrix<double>& v) const {
        Matrix<double> image = v;
        gemm(context_, factor_, gram_, Transpose::no, v, Transpose::no, added_, image.view());
        return image;
    }

    [[nodiscard]] Deflation<T> leading_directions() const {
        Matrix<double> v = weighting_times(random_probes(length(), kLeading, 0));
        auto scratch = Matrix<double>::uninitialized(v.rows(), v.cols());
        orthonormalize(context_, v, scratch, Orthonormal::roughly);
        return Deflation<T>(context_, v, weighting_times(v));
    }

    /// Columns [begin, end) of A as they are stored.
    [[nodiscard]] MatrixView<const T> columns(std::int64_t begin, std::int64_t end) const {
        return tall_ ? stored_.block(begin, 0, end - begin, stored_.cols())
                     : stored_.block(0, begin, stored_.rows(), end - begin);
    }

    /// L without what lies in the leading directions, from its entry (begin, begin) on.
    void copy_lower(std::int64_t begin, const Deflation<T>& leading, MatrixView<T> part) const {
        context_.parallel_for(part.rows(), [&](std::int64_t i) {
            const double* from = gram_.row(begin + i) + begin;
            for (std::int64_t j = 0; j < part.cols(); ++j) part(i, j) = static_cast<T>(from[j] * factor_);
            if (i < part.cols()) part(i, i) = static_cast<T>(from[i] * factor_ + added_);
        });
        if (!leading.empty()) leading.take_from(context_, begin, begin, part);
        for (std::int64_t i = 0; i < part.cols(); ++i) {
            part(i, i) /= 2;
            std::fill(part.row(i) + i + 1, part.row(i) + part.cols(), T{0});
        }
    }

    /// y + y^T
    [[nodiscard]] Matrix<T> with_transpose(const Matrix<T>& y) const {
        auto sum = Matrix<T>::uninitialized(y.rows(), y.rows());
        constexpr std::int64_t kBlock = 64;  // rows whose columns stay in the cache
        context_.parallel_for(ceil_div(y.rows(), kBlock), [&](std::int64_t part) {
            for (std::int64_t j0 = 0; j0 < y.rows(); j0 += kBlock) {
                for (std::int64_t i = part * kBlock; i < std::min((part + 1) * kBlock, y.rows()); ++i) {
                    for (std::int64_t j = j0; j < std::min(j0 + kBlock, y.rows()); ++j) sum(i, j) = y(i, j) + y(j, i);
                }
            }
        });
        return sum;
    }

    const Context& context_;
    MatrixView<const T> stored_;
    bool tall_;
    T scale_;
    MatrixView<const double> gram_;
    double factor_, added_;  ///< N = factor gram + added I
    int exponent_;
};

}  // namespace lowrank::cpu::detail
