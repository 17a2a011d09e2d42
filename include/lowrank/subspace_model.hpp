// lowrank - what Chebyshev-filtered subspace iteration knows of its error, and of that of rounded products.
// SPDX-License-Identifier: MIT
//
// In the average case (Halko, Martinsson, Tropp 2011, section 10) the error of direction i is proportional to
// 1 / p(theta_i)^2 for the product p of all filters so far. So the gain in energy that one filter brought tells the
// scale, and with it what is left: the shortfall.
#pragma once

#include <lowrank/filter_design.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace lowrank::detail {

struct SubspaceProblem {
    std::int64_t order = 0;         ///< of G
    std::int64_t long_side = 0;     ///< of A: G is the Gram matrix of its shorter one
    std::int64_t rank = 0;          ///< wanted
    double trace = 0;               ///< of G: ||A||_F^2
    double excess = 0;              ///< allowed: error <= (1 + excess) optimum
    double least_tail = 0;          ///< below this tail energy, G has lost it to rounding: give up
    double unit = 0;                ///< of G's type: its rounding, of theta_1, hides eigenvalues that are smaller
    double most_amplification = 0;  ///< by one filter, of theta_1 against theta_rank: more would drown the latter
    double most_rotated = 0;        ///< the same where columns hold ever less of the leading directions: Ritz vectors
};

/// Parts of the excess.
inline constexpr double kAim = 0.7;           ///< that is aimed at
inline constexpr double kAccept = 0.75;       ///< and that an estimate may be
inline constexpr double kRoundingPart = 0.2;  ///< that rounding may take

/// Shortfall at which the error is (1 + part of the excess) times the optimum: (tail - d)(1 + e)^2 = tail.
inline double allowed_shortfall(const SubspaceProblem& problem, double tail, double part) {
    const double factor = std::pow(1 + part * problem.excess, 2);
    return tail * (1 - 1 / factor);
}
/// The excess of a squared error `tail` that could be less by `left`.
inline double excess_of(double left, double tail) {
    return left < tail ? std::sqrt(tail / (tail - left)) - 1 : std::numeric_limits<double>::infinity();
}

enum class SubspaceEnd : std::uint8_t { converged, unresolved, stagnated };

template <class Extraction>
struct SubspaceResult {
    Extraction extraction;
    double excess = 0;  ///< estimate
    SubspaceEnd end = SubspaceEnd::converged;
};

/// Columns beyond the rank. In simulation a sixteenth needs a little fewer products; an eighth leaves a margin.
inline std::int64_t oversampling(std::int64_t rank) {
    return std::max<std::int64_t>(8, (rank + 7) / 8);
}

/// Columns of the block for that rank.
inline std::int64_t block_columns(std::int64_t order, std::int64_t rank) {
    return std::min(order, rank + oversampling(rank));
}

/// Steps of Lanczos from which a filter is designed.
inline constexpr int kLanczosSteps = 6;

/// Vectors with which these start, and the leading directions that are taken from there: none where the block is so
/// small that its usual start is as short, or nearly all of the order. Simulated: 8 find the edge of a block of 98
/// within 25 %, 16 that of 216 within 10 %, which costs the pass no degree or one. Other limits were not measured.
inline std::int64_t locked_columns(std::int64_t order, std::int64_t columns) {
    const std::int64_t count = columns < 256 ? 8 : 16;
    return columns < 64 || columns > 3 * order / 4 || order < 4 * kLanczosSteps * count ? 0 : count;
}

/// Of a Ritz vector: ||G v - theta v||^2.
struct Residual {
    std::int64_t place = 0;
    double count = 1;  ///< of Ritz vectors that it stands for
    double squared = 0;
};

/// T_degree((2 x - a) / a), a Chebyshev filter's value at an eigenvalue x >= 0.
inline double chebyshev_value(int degree, double a, double x) {
    const double t = (2 * x - a) / a;
    if (std::abs(t) <= 1) return std::cos(degree * std::acos(t));
    return std::cosh(degree * std::acosh(std::abs(t))) * (t < 0 && degree % 2 != 0 ? -1 : 1);
}

/// The eigenvalues outside of the block. Only their mean is known and that they end near the block's last, the edge:
/// taken as edge t^g, t uniform in (0, 1), with that mean.
class OutsideSpectrum {
public:
    OutsideSpectrum(double edge, double mean)
        : edge_(edge), exponent_(mean > 0 ? std::clamp(edge / mean - 1, 0.0, 64.0) : 64.0) {}

    /// The mean of f over them.
    template <class F>
    [[nodiscard]] double mean_of(F&& f) const {
        constexpr int kPoints = 64;
        double sum = 0;
        for (int k = 0; k < kPoints; ++k) sum += f(edge_ * std::pow((k + 0.5) / kPoints, exponent_));
        return sum / kPoints;
    }

private:
    double edge_;
    double exponent_;
};

/// The filters applied so far and what they say about the error.
class ErrorModel {
public:
    void add_filter(double cut, int degree) {
        filters_.push_back([=](double x) { return chebyshev_value(degree, cut, x); });
    }
    void add_filter(const ZerosFilter& filter) {
        filters_.push_back([=](double x) { return filter.value(x); });
    }

    /// p(x)^2
    [[nodiscard]] double squared_filter(double x) const {
        double product = 1;
        for (const auto& filter : filters_) product *= filter(x);
        return product * product;
    }

    /// sum_ij (theta_i - mu_j) p(mu_j)^2 / p(theta_i)^2 over the wanted directions i and those outside of the block, j:
    /// proportional to the shortfall, by a constant that is the same for every number of filters.
    [[nodiscard]] double shortfall_shape(const std::vector<double>& theta, std::int64_t rank, double mean) const {
        const double edge = theta.back();
        if (!(edge > 0)) return 0;
        const OutsideSpectrum outside(edge, mean);
        const double squares = outside.mean_of([&](double mu) { return squared_filter(mu); });
        const double moments = outside.mean_of([&](double mu) { return mu * squared_filter(mu); });
        double sum = 0;
        for (std::int64_t i = 0; i < rank; ++i) {
            const double x = theta[static_cast<std::size_t>(i)];
            sum += std::max(0.0, x * squares - moments) / squared_filter(x);
        }
        return sum;
    }

private:
    std::vector<std::function<double(double)>> filters_;
};

/// How much more than the model says the shortfall is taken to be. Measured: at orders from 1024 it is up to 6.3 times
/// that; at order 240, where few directions near the cut decide and averages say little, up to 13 times.
inline double bias(std::int64_t order) {
    return 3.5 * (1 + 256 / static_cast<double>(order));
}

/// What is left of the shortfall, apart from the bias, when the last filter gained `gain` and the model says that it
/// left `ratio` of it.
inline double shortfall(double gain, double ratio) {
    constexpr double kMostCredible = 0.95;  // the model knows nothing of a filter that does nothing
    ratio = std::min(ratio, kMostCredible);
    return std::max(gain, 0.0) * ratio / (1 - ratio);
}

inline double sum_of_leading(const std::vector<double>& theta, std::int64_t rank) {
    double sum = 0;
    for (std::int64_t i = 0; i < rank; ++i) sum += theta[static_cast<std::size_t>(i)];
    return sum;
}

/// The mean of the eigenvalues that the block does not hold.
inline double mean_outside(const std::vector<double>& theta, const SubspaceProblem& problem) {
    const auto columns = static_cast<std::int64_t>(theta.size());
    const double rest = problem.trace - sum_of_leading(theta, columns);
    const auto count = static_cast<double>(problem.order - columns);
    return count > 0 ? std::max(0.0, rest / count) : 0;
}

/// Ritz values and the trace, in `problem`, of a G from which `count` leading directions are taken; in their place, to
/// be on the safe side, as many of the next one.
inline std::vector<double> without_leading(std::vector<double> theta, std::int64_t count, SubspaceProblem& problem) {
    const double next = theta[static_cast<std::size_t>(count)];
    for (std::int64_t i = 0; i < count; ++i) {
        problem.trace -= theta[static_cast<std::size_t>(i)] - next;
        theta[static_cast<std::size_t>(i)] = next;
    }
    return theta;
}

/// The energy that the best subspace of a G with errors lacks. They are as good as random: F_ij, what they have between
/// a wanted direction i and one outside, j, turns i by F_ij / (theta_i - mu_j) towards j, which costs
/// F_ij^2 / (theta_i - mu_j). `square(theta_i, mu_j)` is the mean of F_ij^2. Infinite if the block is lost in them.
template <class Square>
double lost_by_turning(const std::vector<double>& theta, const SubspaceProblem& problem, double mean, Square&& square) {
    const double edge = theta.back();
    if (!(edge > 0)) return std::numeric_limits<double>::infinity();
    const OutsideSpectrum outside(edge, mean);
    double sum = 0;
    for (std::int64_t i = 0; i < problem.rank; ++i) {
        const double x = theta[static_cast<std::size_t>(i)];
        sum += outside.mean_of([&](double mu) {
            const double s = square(x, mu);
            return s / std::max(x - mu, std::sqrt(s));
        });
    }
    return sum * static_cast<double>(problem.order - problem.rank);
}

/// That of a G of rounded entries: of A, of G, and of the block. `variance` is the mean square of the relative errors.
inline double lost_in_gram(const std::vector<double>& theta, const SubspaceProblem& problem, double mean,
                           double variance) {
    const auto n = static_cast<double>(problem.order);
    const double entry = problem.trace / (n * static_cast<double>(problem.long_side));  // of A, squared
    double squares = (n - static_cast<double>(theta.size())) * theta.back() * mean;     // at most, of those outside
    for (const double x : theta) squares += x * x;
    return lost_by_turning(theta, problem, mean, [&](double x, double mu) {
        return variance * ((x + mu) * entry + squares / (n * n) + mu * mu / n);
    });
}

/// By how much a gain in energy may appear too small where the blocks of both sums were rounded: twice the standard
/// deviation of sum_i v_i^T G e_i, e_i the errors of v_i.
inline double uncertainty_of_gain(const std::vector<double>& theta, const SubspaceProblem& problem, double variance) {
    double squares = 0;
    for (std::int64_t i = 0; i < problem.rank; ++i) {
        squares += theta[static_cast<std::size_t>(i)] * theta[static_cast<std::size_t>(i)];
    }
    return 2 * std::sqrt(2 * variance * squares / static_cast<double>(problem.order));
}

/// How much of direction 1, squared, each column of a block holds besides its own direction: what a product with G
/// shows of it, if all that is too much comes from there. `squared_norms` are those of the columns of G q.
inline std::vector<double> leaks(const std::vector<double>& theta, std::vector<double> squared_norms) {
    std::sort(squared_norms.begin(), squared_norms.end(), std::greater<>());
    for (std::size_t k = 0; k < theta.size(); ++k) {
        squared_norms[k] = std::max(0.0, squared_norms[k] - theta[k] * theta[k]) / (theta.front() * theta.front());
    }
    return squared_norms;
}

/// The energy that is lost because the blocks are rounded of which one filter takes products. A column's errors have
/// all directions and the size of t_(degree - 1) on what it holds: its own direction and its leak. Of the last product
/// they grow by 4 mu / cut (2 mu / cut where it is the first), and the wanted directions have p(theta_i) against them.
inline double lost_in_filter(const std::vector<double>& theta, const SubspaceProblem& problem, double mean,
                             double variance, double cut, int degree, const std::vector<double>& leaks) {
    const double edge = theta.back();
    if (!(edge > 0)) return std::numeric_limits<double>::infinity();
    const auto square = [](double x) { return x * x; };
    const OutsideSpectrum outside(edge, mean);
    const double growth = (degree == 1 ? 2 : 4) / cut;
    const double squares = outside.mean_of([&](double mu) { return square(growth * mu); });
    const double moments = outside.mean_of([&](double mu) { return mu * square(growth * mu); });
    const double first = square(chebyshev_value(degree - 1, cut, theta.front()));
    double sum = 0;
    for (std::int64_t i = 0; i < problem.rank; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double x = theta[at];
        const double column = square(chebyshev_value(degree - 1, cut, x)) + leaks[at] * first;
        sum += std::max(0.0, x * squares - moments) * column / square(chebyshev_value(degree, cut, x));
    }
    constexpr double kSafety = 10;  // for the earlier products' errors; measured: 4 is up to 3 times too little
    const double outside_share = 1 - static_cast<double>(theta.size()) / static_cast<double>(problem.order);
    return kSafety * variance * outside_share * sum;
}

}  // namespace lowrank::detail
