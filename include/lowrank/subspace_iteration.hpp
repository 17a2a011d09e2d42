// lowrank - Chebyshev-filtered subspace iteration: the leading eigenspace of a Gram matrix G = A^T A, on any backend.
// SPDX-License-Identifier: MIT
//
// A block of l = rank + oversampling orthonormal columns q is filtered by polynomials of G that are small on [0, a] and
// grow fast above (Zhou, Saad, Tiago, Chelikowsky 2006), then orthonormalised. With theta the eigenvalues of q^T G q,
// the energy captured is E = theta_1 + ... + theta_rank; what the best subspace would capture more is the shortfall.
//
// The cut a lies near theta_l, the edge of what the block can hold, and is mixed with the mean of the spectrum outside
// of it. Simulated for Gaussian matrices, wanted rank 0.15 n, this needs 7.9 rank columns of products for an excess of
// 1e-3; the cut at the mean alone needs 11.2.
//
// The shortfall is estimated, not assumed. In the average case (Halko, Martinsson, Tropp 2011, section 10) the error of
// direction i is proportional to 1 / p(theta_i)^2 for the product p of all filters so far. So the gain in E that one
// filter brought tells the scale, and with it what is left; see shortfall().
//
// A Backend does the heavy work; cpu/gram_operator.hpp is one and says what its members mean:
//
//     Block random_block(columns);
//     Block block(columns);                       // its entries still to be written
//     void apply(alpha, q, beta, z);              // z = alpha G q + beta z
//     void add(alpha, x, y);                      // y += alpha x
//     void scale(alpha, x);
//     void orthonormalize(q, scratch, bool to_working_accuracy);
//     std::vector<double> ritz_values(q, z);      // z = G q
//     void rotate(x);                             // x = x V, V the vectors of the last ritz_values(); may be missing
//     Extraction extract(q, rank);                // Rayleigh-Ritz on A itself
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace lowrank::detail {

struct SubspaceProblem {
    std::int64_t order = 0;         ///< of G
    std::int64_t rank = 0;          ///< wanted
    double trace = 0;               ///< of G: ||A||_F^2
    double excess = 0;              ///< allowed: error <= (1 + excess) optimum
    double least_tail = 0;          ///< below this tail energy, G has lost it to rounding: give up
    double most_amplification = 0;  ///< by one filter, of theta_1 against theta_rank: more would drown the latter
    double most_rotated = 0;        ///< the same where the block was rotated to Ritz vectors; if the backend can
};

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

/// T_degree((2 x - a) / a), the filter's value at an eigenvalue x >= 0.
inline double chebyshev_value(int degree, double a, double x) {
    const double t = (2 * x - a) / a;
    if (std::abs(t) <= 1) return std::cos(degree * std::acos(t));
    return std::cosh(degree * std::acosh(std::abs(t))) * (t < 0 && degree % 2 != 0 ? -1 : 1);
}

/// The filters applied so far and what they say about the error.
class ErrorModel {
public:
    void add_filter(double cut, int degree) { filters_.push_back({cut, degree}); }

    /// sum_ij (theta_i - mu_j) p(mu_j)^2 / p(theta_i)^2 over the wanted directions i and those outside of the block, j:
    /// proportional to the shortfall, by a constant that is the same for every number of filters. Of the mu only the
    /// mean is known and that they end near theta_l: taken as theta_l t^g, t uniform in (0, 1), with that mean.
    [[nodiscard]] double shortfall_shape(const std::vector<double>& theta, std::int64_t rank, double mean) const {
        constexpr int kPoints = 64;
        const double edge = theta.back();
        if (!(edge > 0)) return 0;
        const double g = mean > 0 ? std::clamp(edge / mean - 1, 0.0, 64.0) : 64.0;
        double squares = 0;  // mean of p(mu)^2
        double moments = 0;  // mean of mu p(mu)^2
        for (int k = 0; k < kPoints; ++k) {
            const double mu = edge * std::pow((k + 0.5) / kPoints, g);
            const double square = squared_filter(mu, edge);
            squares += square / kPoints;
            moments += mu * square / kPoints;
        }
        double sum = 0;
        for (std::int64_t i = 0; i < rank; ++i) {
            const double x = theta[static_cast<std::size_t>(i)];
            sum += std::max(0.0, x * squares - moments) / squared_filter(x, edge);
        }
        return sum;
    }

private:
    struct Filter {
        double cut;
        int degree;
    };

    /// p(x)^2, where the first product with G is the filter p(x) = x.
    [[nodiscard]] double squared_filter(double x, double edge) const {
        double filter = x / edge;
        for (const Filter& f : filters_) filter *= chebyshev_value(f.degree, f.cut, x);
        return filter * filter;
    }

    std::vector<Filter> filters_;
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

template <class Backend>
class SubspaceIteration {
public:
    using Extraction = typename Backend::Extraction;

    SubspaceIteration(Backend& backend, const SubspaceProblem& problem)
        : backend_(backend),
          problem_(problem),
          columns_(std::min(problem.order, problem.rank + oversampling(problem.rank))) {}

    SubspaceResult<Extraction> run() {
        using Block = typename Backend::Block;
        Block z = backend_.random_block(columns_);
        Block q = backend_.block(columns_);
        backend_.apply(1, z, 0, q);
        backend_.orthonormalize(q, z, false);
        double last_energy = 0;
        for (int round = 0; round < kMostRounds; ++round) {
            backend_.apply(1, q, 0, z);
            const std::vector<double> theta = backend_.ritz_values(q, z);
            const double before = sum_of_leading(theta, problem_.rank);
            const double tail = problem_.trace - before;
            if (!(tail > problem_.least_tail)) return {{}, 0, SubspaceEnd::unresolved};
            const double mean = mean_outside(theta);
            const double cut = std::max(mean + kEdge * (theta.back() - mean), kLeastCut * theta.front());
            const double here = round == 0 ? tail : left_of(before - last_energy, theta, mean);
            last_energy = before;
            const double expected = round == 1 ? kFirstDoubt * here : here;
            const bool enough = round > 0 && expected <= allowed(tail);
            bool last = enough;
            if (!enough) {
                const int wanted = round == 0 ? kFirstDegree : choose_degree(theta, cut, mean, expected, tail);
                const int degree = tame(wanted, theta, cut, q, z);
                filter(q, z, cut, degree);
                previous_ = model_;
                model_.add_filter(cut, degree);
                last = degree == wanted && (round > 0 || problem_.excess >= kLoose);
            }
            backend_.orthonormalize(q, z, last);
            if (!last) continue;
            Extraction extraction = backend_.extract(q, problem_.rank);
            const double after = sum_of_leading(extraction.ritz_values, problem_.rank);
            double left = expected;
            if (!enough) {
                left = left_of(after - before, extraction.ritz_values, mean);
                if (round == 0) left *= kFirstDoubt;
            }
            const double now = problem_.trace - after;
            if (left <= allowed(now, round == 0 ? kAcceptFirst : kAccept))
                return {std::move(extraction), excess_of(left, now), SubspaceEnd::converged};
        }
        return {{}, 0, SubspaceEnd::stagnated};
    }

private:
    // Enough for any spectrum seen; without them a hopeless case would run on.
    static constexpr int kMostRounds = 24;
    static constexpr double kEdge = 0.9;
    static constexpr double kLeastCut = 1e-7;
    static constexpr int kFirstDegree = 3;
    static constexpr double kLoose = 5e-3;  ///< from here on one filter may do
    static constexpr int kMostDegree = 12;
    static constexpr double kAim = 0.7;          ///< part of the excess that is aimed at
    static constexpr double kAccept = 0.75;      ///< and that an estimate may be
    static constexpr double kAcceptFirst = 0.9;  ///< one that includes kFirstDoubt
    static constexpr double kFirstDoubt = 3;     ///< measured: what the first gain says is up to 2.8 times too little

    /// Shortfall at which the error is (1 + excess) times the optimum: (tail - d)(1 + e)^2 = tail.
    [[nodiscard]] double allowed(double tail, double part = kAim) const {
        const double factor = std::pow(1 + part * problem_.excess, 2);
        return tail * (1 - 1 / factor);
    }
    [[nodiscard]] static double excess_of(double left, double tail) {
        return left < tail ? std::sqrt(tail / (tail - left)) - 1 : std::numeric_limits<double>::infinity();
    }
    [[nodiscard]] double mean_outside(const std::vector<double>& theta) const {
        const double rest = problem_.trace - sum_of_leading(theta, columns_);
        const auto count = static_cast<double>(problem_.order - columns_);
        return count > 0 ? std::max(0.0, rest / count) : 0;
    }
    /// By how much the last filter reduced the shortfall, by the model.
    [[nodiscard]] double reduction(const std::vector<double>& theta, double mean) const {
        return model_.shortfall_shape(theta, problem_.rank, mean) /
               previous_.shortfall_shape(theta, problem_.rank, mean);
    }
    /// The shortfall that is left after the last filter gained `gain`.
    [[nodiscard]] double left_of(double gain, const std::vector<double>& theta, double mean) const {
        return bias(problem_.order) * shortfall(gain, reduction(theta, mean));
    }

    /// The largest degree up to `degree` whose filter does not drown the wanted directions in the leading ones. If that
    /// is less than `degree`, the columns of q, and z with them, first become Ritz vectors where the backend can do it:
    /// then each column grows by the filter's value at its own Ritz value, and holds little of the leading directions.
    template <class Block>
    int tame(int degree, const std::vector<double>& theta, double cut, Block& q, Block& z) {
        const int mixed = tamed(degree, theta, cut, problem_.most_amplification);
        if constexpr (requires { backend_.rotate(q); }) {
            if (mixed < degree) {
                backend_.rotate(q);
                backend_.rotate(z);
                return tamed(degree, theta, cut, problem_.most_rotated);
            }
        }
        return mixed;
    }
    [[nodiscard]] int tamed(int degree, const std::vector<double>& theta, double cut, double most) const {
        const double least = theta[static_cast<std::size_t>(problem_.rank - 1)];
        while (degree > 1 && std::abs(chebyshev_value(degree, cut, theta.front())) >
                                 most * std::max(1.0, std::abs(chebyshev_value(degree, cut, least)))) {
            --degree;
        }
        return degree;
    }
    /// The smallest degree after which, by the model, the estimate will be as wanted when `here` is left now, all of
    /// which may show as gain.
    [[nodiscard]] int choose_degree(const std::vector<double>& theta, double cut, double mean, double here,
                                    double tail) const {
        const double shape = model_.shortfall_shape(theta, problem_.rank, mean);
        int degree = 1;
        for (; degree < kMostDegree; ++degree) {
            ErrorModel next = model_;
            next.add_filter(cut, degree);
            if (next.shortfall_shape(theta, problem_.rank, mean) / shape * bias(problem_.order) * here <= allowed(tail))
                break;
        }
        return degree;
    }

    /// q = T_degree((2 G - cut) / cut) q, given z = G q; z is scratch afterwards.
    template <class Block>
    void filter(Block& q, Block& z, double cut, int degree) {
        // z = t_1 = (2 / cut) G q - q, then t_(k+1) = (4 / cut) G t_k - 2 t_k - t_(k-1), in turns in the two blocks.
        backend_.scale(2 / cut, z);
        backend_.add(-1, q, z);
        for (int k = 1; k < degree; ++k) {
            backend_.apply(4 / cut, z, -1, q);
            backend_.add(-2, z, q);
            std::swap(q, z);
        }
        std::swap(q, z);
    }

    Backend& backend_;
    SubspaceProblem problem_;
    std::int64_t columns_;
    ErrorModel model_;
    ErrorModel previous_;  ///< before the last filter
};

}  // namespace lowrank::detail
