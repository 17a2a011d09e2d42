// lowrank - the filter that one pass of subspace iteration takes, designed on an estimate of the whole spectrum.
// SPDX-License-Identifier: MIT
//
// A few steps of block Lanczos give Gauss quadrature of the spectral density (stochastic Lanczos quadrature: Ubaru,
// Chen, Saad 2017): values with weights, from which the eigenvalue at any place can be told, though not exactly. Of
// all polynomials p with p(x) = 1 at a wanted eigenvalue x, the one whose squares sum to least over the others is the
// kernel polynomial of their density (Stiefel 1958): a degree less than Chebyshev's for Gaussian
// matrices, two less for power laws, where most eigenvalues lie far below the edge.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace lowrank::detail {

/// What block Lanczos says of a spectrum.
struct LanczosSpectrum {
    std::vector<double> values;   ///< Ritz values, descending; a multiple of `block`
    std::vector<double> weights;  ///< of the density, for each; they sum to 1
    std::int64_t block = 0;       ///< vectors that it started with
};

/// Eigenvalues by their place, 0 (the largest) to `order`.
class EigenvalueCurve {
public:
    EigenvalueCurve(const LanczosSpectrum& spectrum, std::int64_t order)
        : leading_(spectrum.values.begin(), spectrum.values.begin() + spectrum.block) {
        // The values of one step of Lanczos lie together and stand for a range of places, whose sum is known better
        // than any of them: a curve through the sums, over the logarithm of the place, which bends least.
        double place = 0;
        double sum = 0;
        for (std::size_t i = 0; i < spectrum.values.size(); i += static_cast<std::size_t>(spectrum.block)) {
            for (std::size_t k = i; k < i + static_cast<std::size_t>(spectrum.block); ++k) {
                const double count = spectrum.weights[k] * static_cast<double>(order);
                place += count;
                sum += count * std::max(0.0, spectrum.values[k]);
            }
            if (!(place > 0) || (!logs_.empty() && !(std::log(place) > logs_.back()))) continue;
            logs_.push_back(std::log(place));
            sums_.push_back(sum);
        }
        find_slopes();
    }

    [[nodiscard]] double at(double place) const {
        if (place < static_cast<double>(leading_.size()) || logs_.size() < 2) {
            const auto i = static_cast<std::size_t>(std::max(0.0, place));
            return std::max(0.0, leading_[std::min(i, leading_.size() - 1)]);
        }
        // The derivative of the sum to the place.
        const double x = std::max(std::log(place), logs_.front());
        const auto right = std::upper_bound(logs_.begin() + 1, logs_.end() - 1, x);
        const auto k = static_cast<std::size_t>(right - logs_.begin()) - 1;
        const double h = logs_[k + 1] - logs_[k];
        const double t = (x - logs_[k]) / h;
        const double slope = 6 * t * (1 - t) * (sums_[k + 1] - sums_[k]) / h + (3 * t * t - 4 * t + 1) * slopes_[k] +
                             (3 * t * t - 2 * t) * slopes_[k + 1];
        return std::max(0.0, slope / std::exp(x));
    }

private:
    /// Monotone cubics (Fritsch, Butland 1984).
    void find_slopes() {
        const std::size_t n = logs_.size();
        slopes_.assign(n, 0);
        if (n < 2) return;
        const auto width = [&](std::size_t k) { return logs_[k + 1] - logs_[k]; };
        const auto rise = [&](std::size_t k) { return (sums_[k + 1] - sums_[k]) / width(k); };
        for (std::size_t k = 1; k + 1 < n; ++k) {
            if (!(rise(k - 1) * rise(k) > 0)) continue;
            const double left = 2 * width(k) + width(k - 1);
            const double right = width(k) + 2 * width(k - 1);
            slopes_[k] = (left + right) / (left / rise(k - 1) + right / rise(k));
        }
        slopes_[0] = std::max(0.0, 1.5 * rise(0) - slopes_[1] / 2);
        slopes_[n - 1] = std::max(0.0, 1.5 * rise(n - 2) - slopes_[n - 2] / 2);
    }

    std::vector<double> leading_;
    std::vector<double> logs_, sums_, slopes_;  ///< of places, of the eigenvalues up to there, d sums / d logs
};

/// A spectrum as a filter is designed for it.
struct EstimatedSpectrum {
    std::vector<double> block;    ///< the leading eigenvalues, as many as the block has columns
    std::vector<double> outside;  ///< of those that follow: as many places, evenly spread
    double each = 0;              ///< eigenvalues that one of `outside` stands for

    /// The sum of all.
    [[nodiscard]] double trace() const {
        return std::accumulate(block.begin(), block.end(), 0.0) +
               each * std::accumulate(outside.begin(), outside.end(), 0.0);
    }
};

/// From Lanczos of some steps, and of one step less: past the leading places the errors of the two are alike, and of
/// opposite signs for smooth spectra (simulated, six steps of 16 vectors: the edge of a Gaussian matrix's block is
/// found 4 to 7 % too high by six, 3 to 6 % too low by five).
inline EstimatedSpectrum estimated_spectrum(const LanczosSpectrum& full, const LanczosSpectrum& shorter,
                                            std::int64_t order, std::int64_t columns) {
    constexpr int kOutside = 96;
    const EigenvalueCurve one(full, order);
    const EigenvalueCurve other(shorter, order);
    EstimatedSpectrum result;
    result.each = static_cast<double>(order - columns) / kOutside;
    double last = full.values.front();
    const auto add = [&](double place, std::vector<double>& to) {
        const bool leading = place < static_cast<double>(full.block);
        last = std::min(last, leading ? one.at(place) : (one.at(place) + other.at(place)) / 2);
        to.push_back(last);
    };
    for (std::int64_t k = 0; k < columns; ++k) add(static_cast<double>(k) + 0.5, result.block);
    for (int k = 0; k < kOutside; ++k) add(static_cast<double>(columns) + (k + 0.5) * result.each, result.outside);
    return result;
}

/// The product of (x - zero) / (one - zero): 1 at `one`.
struct ZerosFilter {
    std::vector<double> zeros;  ///< descending, the order in which they are applied
    double one = 1;

    [[nodiscard]] int degree() const { return static_cast<int>(zeros.size()); }
    [[nodiscard]] double value(double x) const { return value(x, 0, degree()); }
    /// The largest absolute value on [0, the largest zero], beyond which it only grows: on a grid.
    [[nodiscard]] double largest_below_zeros() const {
        constexpr int kPoints = 64;
        double largest = 0;
        for (int k = 0; k < kPoints; ++k) largest = std::max(largest, std::abs(value(zeros.front() * k / kPoints)));
        return largest;
    }
    /// The product of the first `factors` alone.
    [[nodiscard]] double value_before(double x, int factors) const { return value(x, 0, factors); }
    /// The product of those that follow the first `factors`.
    [[nodiscard]] double value_after(double x, int factors) const { return value(x, factors, degree()); }

private:
    [[nodiscard]] double value(double x, int begin, int end) const {
        double product = 1;
        for (int k = begin; k < end; ++k) {
            const double zero = zeros[static_cast<std::size_t>(k)];
            product *= (x - zero) / (one - zero);
        }
        return product;
    }
};

/// The kernel polynomial of that degree, at least 1, for points of equal weight, all below x: 1 there. Of a lower
/// degree if that one is 0 at all points.
inline ZerosFilter kernel_filter(const std::vector<double>& points, double x, int degree) {
    // Orthonormal polynomials of the points by Stieltjes' procedure: the Jacobi matrix, `degree` + 1 rows.
    const auto full = static_cast<std::size_t>(degree) + 1;
    std::size_t rows = full;
    std::vector<double> diagonal(rows);
    std::vector<double> beside(rows);
    std::vector<double> p(points.size(), 1 / std::sqrt(static_cast<double>(points.size())));
    std::vector<double> before(points.size(), 0);
    double at_x = p.front();
    double before_at_x = 0;
    double ratio = 0;  // of the last two polynomials at x
    for (std::size_t k = 0; k < rows; ++k) {
        for (std::size_t i = 0; i < p.size(); ++i) diagonal[k] += points[i] * p[i] * p[i];
        const double last = k > 0 ? beside[k - 1] : 0;
        if (k + 1 == rows) break;
        double squares = 0;
        for (std::size_t i = 0; i < p.size(); ++i) {
            const double next = (points[i] - diagonal[k]) * p[i] - last * before[i];
            before[i] = std::exchange(p[i], next);
            squares += next * next;
        }
        beside[k] = std::sqrt(squares);
        constexpr double kNothing = 1e-14;  // rounding: there are no more than k + 1 different points
        if (!(beside[k] > kNothing * x)) {
            rows = k + 1;
            break;
        }
        for (double& value : p) value /= beside[k];
        const double next = ((x - diagonal[k]) * at_x - last * before_at_x) / beside[k];
        before_at_x = std::exchange(at_x, next);
        ratio = before_at_x / at_x;
    }
    // With x an eigenvalue (Gauss-Radau quadrature, Golub 1973), the others are the zeros: by bisection, counted by
    // the signs of the pivots. Without it the points are.
    if (rows == full) diagonal[rows - 1] = x - beside[rows - 2] * ratio;
    const auto below = [&](double y) {
        int count = 0;
        double pivot = 1;
        for (std::size_t k = 0; k < rows; ++k) {
            pivot = diagonal[k] - y - (k > 0 ? beside[k - 1] * beside[k - 1] / pivot : 0);
            if (pivot == 0) pivot = -1e-300;
            if (pivot < 0) ++count;
        }
        return count;
    };
    ZerosFilter filter{{}, x};
    for (int place = static_cast<int>(std::min(rows, full - 1)); place > 0; --place) {
        double low = 0;
        double high = x;
        for (int step = 0; step < 60; ++step) {
            const double middle = (low + high) / 2;
            (below(middle) < place ? low : high) = middle;
        }
        filter.zeros.push_back(low);
    }
    return filter;
}

}  // namespace lowrank::detail
