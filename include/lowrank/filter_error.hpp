// lowrank - what a filter by its zeros leaves of the error, expected before it is applied and measured afterwards.
// SPDX-License-Identifier: MIT
//
// A random block holds each direction i with the size p(x_i). Of the energy of a wanted direction i, one outside, j,
// takes (x_i - x_j) p(x_j)^2 / p(x_i)^2, divided by the columns that the block has beyond the rank: a model after the
// average case of Halko, Martinsson, Tropp (2011, section 10), who sum over all directions beyond the rank.
#pragma once

#include <lowrank/filter_design.hpp>
#include <lowrank/subspace_model.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank::detail {

/// Whether the block is made orthonormal after the first factor. Then its columns hold, in this order, ever less of the
/// leading directions: column i holds direction m < i by x_i's value over x_m's only.
enum class Between : bool { nothing, orthonormal };

class FilterError {
public:
    FilterError(const EstimatedSpectrum& spectrum, const SubspaceProblem& problem)
        : spectrum_(spectrum), problem_(problem), rank_(static_cast<std::size_t>(problem.rank)) {}

    /// Of the optimum at this rank, squared.
    [[nodiscard]] double tail() const {
        double sum = 0;
        for (std::size_t i = rank_; i < spectrum_.block.size(); ++i) sum += spectrum_.block[i];
        for (const double mu : spectrum_.outside) sum += spectrum_.each * mu;
        return sum;
    }

    /// The energy that the block will lack, all products exact.
    [[nodiscard]] double shortfall(const ZerosFilter& filter) const {
        const Sums sums = over_outside([&](double mu) { return square(filter.value(mu)); });
        double sum = 0;
        for (std::size_t i = 0; i < rank_; ++i) sum += sums.taken_from(spectrum_.block[i], filter);
        return sum / beyond();
    }

    /// The energy that is lost as each product, but for the first of all, rounds the entries of its block by
    /// `variance`, the mean square relative error; `locked` leading directions are not in the block.
    [[nodiscard]] double lost_to_rounding(const ZerosFilter& filter, double variance, std::int64_t locked,
                                          Between between) const {
        const auto first = static_cast<std::size_t>(locked);
        const double spread = variance / static_cast<double>(problem_.order);  // over all directions
        double lost = 0;
        for (int factor = 1; factor < filter.degree(); ++factor) {
            // An error in direction mu grows by the product with G, and is filtered by the factors that follow.
            const double growth = 1 / (filter.one - filter.zeros[static_cast<std::size_t>(factor)]);
            const Sums sums =
                over_outside([&](double mu) { return square(growth * mu * filter.value_after(mu, factor + 1)); });
            if (between == Between::nothing) {
                // All columns hold all directions alike.
                double held = 0;
                for (std::size_t m = first; m < spectrum_.block.size(); ++m) {
                    held += square(filter.value_before(spectrum_.block[m], factor));
                }
                for (std::size_t i = 0; i < rank_; ++i) {
                    lost += sums.taken_from(spectrum_.block[i], filter) * spread * held / beyond();
                }
            } else {
                double held = 0;  // by column i, of those before it, over its own first value
                for (std::size_t i = first; i < rank_; ++i) {
                    const double x = spectrum_.block[i];
                    const double own = square(filter.value_before(x, 1));
                    held += square(filter.value_before(x, factor) / own);
                    lost += sums.taken_from(x, filter) * spread * held * square(own);
                }
            }
        }
        return lost;
    }

    /// By how much the first direction in the block outgrows the last wanted one, in one go.
    [[nodiscard]] double amplification(const ZerosFilter& filter, std::int64_t locked) const {
        return std::abs(filter.value(spectrum_.block[static_cast<std::size_t>(locked)])) /
               std::abs(filter.value(spectrum_.block[rank_ - 1]));
    }

    /// The energy that the best subspace has more than these Ritz vectors, of `theta`, after filters whose product
    /// squared is `squared_filter(mu)`: a residual says how much a vector holds of what is outside, squared and times
    /// (theta - mu)^2; it costs (theta - mu) times that. The spectrum is moved to where the block's last Ritz value
    /// lies, which is below its eigenvalue: up without limit, down by kMostDown. Of what is outside the columns beyond
    /// the rank hold the most: in the mean p^2 g / (p^2 + g) is left of p^2, with the g for which they hold as many
    /// directions as they are; with kSpread times that the estimate is up to 1.7 times the truth for Gaussian matrices.
    template <class F>
    [[nodiscard]] double shortfall(const std::vector<Residual>& residuals, const std::vector<double>& theta,
                                   F&& squared_filter) const {
        std::vector<double> parts;
        for (const double mu : spectrum_.outside) parts.push_back(squared_filter(mu));
        leave_what_is_not_held(parts);
        const double edge = spectrum_.block.back();
        const double moved = edge > 0 ? std::max(kMostDown, theta.back() / edge) : 1;
        double sum = 0;
        for (const Residual& one : residuals) {
            const double x = theta[static_cast<std::size_t>(one.place)];
            if (!(x > 0)) continue;
            double energy = 0;
            double squares = 0;
            double closest = 0;
            for (std::size_t j = 0; j < parts.size(); ++j) {
                const double place = std::min(moved * spectrum_.outside[j], kClosest * x);
                const double part = parts[j];
                energy += (x - place) * part;
                squares += square(x - place) * part;
                closest = std::max(closest, place);
            }
            // Where the filters leave nothing of what is expected outside, it is something else.
            sum += one.count * one.squared * (squares > 0 ? energy / squares : 1 / (x - closest));
        }
        return sum;
    }

private:
    static constexpr double kSpread = 6;  ///< so that few directions, of which the mean says little, are not missed
    static constexpr double kMostDown = 0.9;
    static constexpr double kClosest = 0.999;  ///< eigenvalues outside are below a wanted one, of it

    struct Sums {
        double squares = 0;  ///< of what the block holds of the directions outside
        double moments = 0;  ///< the same times their eigenvalues
        [[nodiscard]] double taken_from(double x, const ZerosFilter& filter) const {
            return std::max(0.0, x * squares - moments) / square(filter.value(x));
        }
    };
    template <class F>
    [[nodiscard]] Sums over_outside(F&& held) const {
        Sums sums;
        for (const double mu : spectrum_.outside) {
            const double here = held(mu) * spectrum_.each;
            sums.squares += here;
            sums.moments += mu * here;
        }
        return sums;
    }
    void leave_what_is_not_held(std::vector<double>& parts) const {
        const auto held = [&](double g) {
            double sum = 0;
            for (const double part : parts) sum += spectrum_.each * part / (part + g);
            return sum;
        };
        const double most = *std::max_element(parts.begin(), parts.end());
        if (!(most > 0)) return;
        // Where g is small all directions are held, where it is large few.
        double low = -40;
        double high = 40;
        for (int step = 0; step < 50; ++step) {
            const double middle = (low + high) / 2;
            (held(most * std::exp(middle)) > beyond() ? low : high) = middle;
        }
        const double g = kSpread * most * std::exp(high);
        for (double& part : parts) part *= g / (part + g);
    }
    [[nodiscard]] double beyond() const { return static_cast<double>(spectrum_.block.size() - rank_); }
    static double square(double x) { return x * x; }

    const EstimatedSpectrum& spectrum_;
    const SubspaceProblem& problem_;
    std::size_t rank_;
};

}  // namespace lowrank::detail
