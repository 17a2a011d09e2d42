// lowrank - S with S S^T = A for a Gram matrix A, singular or not: what weighs a decomposition by its statistics.
// SPDX-License-Identifier: MIT
//
// Any such S gives the same weighted norm, so an eigendecomposition is not needed: this is a Cholesky factorisation
// which costs n^3 / 3 operations at the speed of products. Where a pivot shows that A is singular or nearly so, it is
// done again with complete pivoting, S = P L with L lower trapezoidal, at a third of the speed. That stops at the rank
// where nothing but rounding is left, so a singular, rank-one or zero A needs no care and no jitter. The matrix is
// scaled to a unit diagonal first: the error is then small against sqrt(a_ii a_jj), not only against the largest entry,
// and inputs of very different size keep their accuracy (van der Sluis 1969; Demmel 1989). Blocked as LAPACK's dpstrf
// (Hammarling, Higham, Lucas 2007); the error bound is Higham's (2002, section 10.3).
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/cholesky.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cpu {

/// A + damping I ~ S S^T, up to the scale: S = 2^exponent P L.
struct GramRoot {
    Matrix<double> lower;  ///< L, n x n, lower triangular; zero from column `rank` on; no entry above 1 in size
    std::vector<std::int64_t> order;  ///< row i of L is row order[i] of S
    std::int64_t rank = 0;            ///< columns that are not zero
    int exponent = 0;

    [[nodiscard]] std::int64_t width() const { return lower.rows(); }
    /// True for a zero A, which says nothing.
    [[nodiscard]] bool zero() const { return rank == 0; }
};

namespace detail {

/// Pivoted Cholesky of `a` (upper triangle read, overwritten) with unit or zero diagonal; fills `root.lower` and
/// `root.order`.
class PivotedCholesky {
public:
    PivotedCholesky(const Context& context, Matrix<double>& a, GramRoot& root)
        : context_(context), a_(a), l_(root.lower), order_(root.order), n_(a.rows()), panel_(kPanel, n_) {
        diagonal_.resize(static_cast<std::size_t>(n_));
        for (std::int64_t i = 0; i < n_; ++i) diagonal(i) = a(i, i);
    }

    /// Returns the rank.
    std::int64_t run() {
        // Rounding leaves about n ulp of a unit diagonal where exact arithmetic leaves nothing.
        const double negligible = static_cast<double>(n_) * std::numeric_limits<double>::epsilon();
        for (std::int64_t begin = 0; begin < n_; begin += kPanel) {
            const std::int64_t end = std::min(begin + kPanel, n_);
            std::int64_t k = begin;
            while (k < end && step(begin, k, negligible)) ++k;
            context_.parallel_for(ceil_div(n_ - begin, kPanel), [&](std::int64_t part) {
                const std::int64_t first = begin + part * kPanel;
                for (std::int64_t i = first; i < std::min(first + kPanel, n_); ++i) {
                    for (std::int64_t j = begin; j < std::min(k, i + 1); ++j) l_(i, j) = panel_(j - begin, i);
                }
            });
            if (k < end) return k;
            if (end == n_) break;
            const MatrixView<const double> panel = panel_.view().block(0, end, end - begin, n_ - end);
            product(context_, Part::upper, Operands::exact, -1.0, panel, Transpose::yes, panel, Transpose::no, 1.0,
                    a_.view().block(end, end, n_ - end, n_ - end));
        }
        return n_;
    }

private:
    static constexpr std::int64_t kPanel = 64;  // LAPACK's block size for dpstrf; above it the panel's own work shows

    [[nodiscard]] double& diagonal(std::int64_t i) { return diagonal_[static_cast<std::size_t>(i)]; }
    /// Entry (i, j) of the symmetric rest, of which the upper triangle is kept.
    [[nodiscard]] double& entry(std::int64_t i, std::int64_t j) { return i <= j ? a_(i, j) : a_(j, i); }

    /// Column k of L, as a row of the panel; false if the largest pivot is negligible. The columns from `begin` on are
    /// taken off the running diagonal, but not yet off the rest of `a`. On one thread: there is too little work in a
    /// column to wake others for.
    bool step(std::int64_t begin, std::int64_t k, double negligible) {
        const auto largest = std::max_element(diagonal_.begin() + k, diagonal_.end());
        if (!(*largest > negligible)) return false;
        swap(begin, k, largest - diagonal_.begin());
        double* column = panel_.row(k - begin);
        const double pivot = std::sqrt(diagonal(k));
        column[k] = pivot;
        std::copy(a_.row(k) + k + 1, a_.row(k) + n_, column + k + 1);
        for (std::int64_t j = begin; j < k; ++j) {
            const double* earlier = panel_.row(j - begin);
            const double factor = earlier[k];
            for (std::int64_t i = k + 1; i < n_; ++i) column[i] -= factor * earlier[i];
        }
        for (std::int64_t i = k + 1; i < n_; ++i) {
            column[i] /= pivot;
            diagonal(i) -= column[i] * column[i];
        }
        return true;
    }

    /// Exchanges rows and columns k < p of the rest, and rows of L.
    void swap(std::int64_t begin, std::int64_t k, std::int64_t p) {
        if (k == p) return;
        std::swap(order_[static_cast<std::size_t>(k)], order_[static_cast<std::size_t>(p)]);
        std::swap(diagonal(k), diagonal(p));
        std::swap_ranges(l_.row(k), l_.row(k) + begin, l_.row(p));
        for (std::int64_t j = begin; j < k; ++j) std::swap(panel_(j - begin, k), panel_(j - begin, p));
        std::swap(a_(k, k), a_(p, p));
        for (std::int64_t j = k + 1; j < n_; ++j) {
            if (j != p) std::swap(entry(k, j), entry(p, j));
        }
    }

    const Context& context_;
    Matrix<double>& a_;
    Matrix<double>& l_;
    std::vector<std::int64_t>& order_;
    std::int64_t n_;
    Matrix<double> panel_;  // the columns of L that are being made, each in a row
    std::vector<double> diagonal_;
};

/// The upper triangle becomes the lower one, with zeros above it.
inline void transpose_upper(const Context& context, Matrix<double>& a) {
    constexpr std::int64_t kBlock = 64;  // 32 KiB, which stay in the cache while their columns are written
    const std::int64_t n = a.rows();
    context.parallel_for(ceil_div(n, kBlock), [&](std::int64_t part) {
        const std::int64_t end = std::min((part + 1) * kBlock, n);
        for (std::int64_t first = part * kBlock; first < n; first += kBlock) {
            for (std::int64_t i = part * kBlock; i < end; ++i) {
                for (std::int64_t j = std::max(i + 1, first); j < std::min(first + kBlock, n); ++j) {
                    a(j, i) = std::exchange(a(i, j), 0.0);
                }
            }
        }
    });
}

}  // namespace detail

/// The root of the mean Gram matrix, moments.gram() / moments.rows(), with `damping` times the mean of its diagonal
/// added to its diagonal. O(n^3 / 3) time, memory for an n x n matrix of doubles, for two with
/// pivoting. The same for any number of threads.
inline GramRoot gram_root(const Context& context, const Moments& moments, double damping = 0) {
    const std::int64_t n = moments.width();
    const MatrixView<const double> gram = moments.gram();
    GramRoot root{{}, std::vector<std::int64_t>(static_cast<std::size_t>(n))};
    std::iota(root.order.begin(), root.order.end(), std::int64_t{0});
    if (n == 0) return root;
    double mean = 0;
    for (std::int64_t i = 0; i < n; ++i) mean += gram(i, i) / static_cast<double>(n);
    std::vector<double> scale(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) scale[static_cast<std::size_t>(i)] = std::sqrt(gram(i, i) + damping * mean);

    auto unit = Matrix<double>::uninitialized(n, n);  // its upper triangle
    const auto form_unit = [&] {
        context.parallel_for(n, [&](std::int64_t i) {
            const double row = scale[static_cast<std::size_t>(i)];
            unit(i, i) = row > 0 ? 1 : 0;  // a zero row: the input is never there
            for (std::int64_t j = i + 1; j < n; ++j) {
                const double column = scale[static_cast<std::size_t>(j)];
                unit(i, j) = row > 0 && column > 0 ? gram(i, j) / row / column : 0;
            }
        });
    };
    form_unit();
    // Far above what rounding leaves of a pivot that is zero, about n ulp: a rank is not lost to it.
    if (cholesky(context, unit.view(), 100 * static_cast<double>(n) * std::numeric_limits<double>::epsilon())) {
        root.rank = n;
        detail::transpose_upper(context, unit);
        root.lower = std::move(unit);
    } else {
        form_unit();
        root.lower = Matrix<double>(n, n);
        root.rank = detail::PivotedCholesky(context, unit, root).run();
    }

    // The rest of the scale: back to that of A, by tokens, and out of it a power of two that keeps a float in range.
    double largest = 0;
    for (const double value : scale) largest = std::max(largest, value);
    const double tokens = std::sqrt(static_cast<double>(std::max<std::int64_t>(moments.rows(), 1)));
    if (largest > 0) static_cast<void>(std::frexp(largest / tokens, &root.exponent));
    context.parallel_for(n, [&](std::int64_t i) {
        const double row = std::ldexp(scale[static_cast<std::size_t>(root.order[static_cast<std::size_t>(i)])] / tokens,
                                      -root.exponent);
        for (std::int64_t j = 0; j <= i; ++j) root.lower(i, j) *= row;
    });
    return root;
}

}  // namespace lowrank::cpu
