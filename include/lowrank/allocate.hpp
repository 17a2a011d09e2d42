// lowrank - allocate(): splits a budget of parameters over the layers of a model.
// SPDX-License-Identifier: MIT
//
// Mathematics. Factors of rank r of layer l cost r (d_in + d_out) parameters and lose sensitivity_l sum_{i>r}
// s_{l,i}^2; dense, the layer costs d_in d_out and loses nothing. One choice for each layer, least loss in all, cost
// within the budget: a multiple-choice knapsack. On the lower convex hull of each layer's (cost, loss) its relaxation
// is solved by a greedy: take the steps along the hulls in the order of loss saved per parameter (Sinha, Zoltners
// 1979). Where the budget ends within a step, the multiplier there bounds what any allocation can reach, and the gap to
// it is returned; what is left of the budget goes to single steps, best first, that still fit.
//
// The losses of the layers must be in one unit. Those of two-sided calibrations are (decompose_calibrated.hpp: nats per
// token); those of plain or one-sided errors are not, and need a sensitivity for each layer. With raw weight errors an
// allocation is worse than equal shares.
//
//     std::vector<lowrank::AllocationLayer> layers = {{2560, 2560, factors.spectrum}, ...};
//     auto split = lowrank::allocate(layers, budget, {.floor = 0.15, .multiple = 16});
//     for (const lowrank::RankChoice& choice : split.choices) ...
#pragma once

#include <lowrank/error.hpp>
#include <lowrank/rank.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace lowrank {

/// A layer that competes for parameters.
struct AllocationLayer {
    std::int64_t d_in = 0;
    std::int64_t d_out = 0;
    std::span<const double> spectrum = {};  ///< leading singular values, descending: as many as allocatable_ranks() go
    double squared_norm = 0;                ///< sum of the squares of all of them, also those that are cut off
    double sensitivity = 1;                 ///< loss for each unit of squared error
};

struct AllocationOptions {
    /// No layer gets less than this part of its break-even rank (and at least `multiple`). A third of it changes
    /// SmolLM2's perplexity by 0.1 %; without any, an estimate that is wrong can empty a layer.
    double floor = 0.15;
    double cap = 1;             ///< factors of more than this part of the break-even rank are not considered
    std::int64_t multiple = 1;  ///< ranks are multiples of it, which kernels like
};

/// The split, and how near it is to the best.
struct Allocation {
    std::vector<RankChoice> choices;  ///< one for each layer; `rank` of a dense one is where it left the factors
    std::int64_t parameters = 0;      ///< of the layers
    double loss = 0;                  ///< by the estimate
    double bound = 0;                 ///< no allocation within the budget and the options loses less

    /// At most this part of the loss could be saved by a better allocation.
    [[nodiscard]] double gap() const { return loss > 0 ? std::max(0.0, 1 - bound / loss) : 0; }
};

namespace detail {

inline void check_options(const AllocationOptions& options) {
    if (!(options.floor >= 0 && options.floor <= options.cap && options.cap <= 1)) {
        throw ValueError("a floor of " + std::to_string(options.floor) + " and a cap of " +
                         std::to_string(options.cap) + " are not parts of the break-even rank: 0 <= floor <= cap <= 1");
    }
    if (options.multiple < 1) {
        throw ValueError("ranks cannot be multiples of " + std::to_string(options.multiple));
    }
}

}  // namespace detail

/// The least and the largest rank that a layer can get as factors; nothing if it can only be dense.
/// Throws ValueError for options out of their domain.
inline std::optional<std::pair<std::int64_t, std::int64_t>> allocatable_ranks(std::int64_t d_in, std::int64_t d_out,
                                                                              const AllocationOptions& options) {
    detail::check_options(options);
    const double break_even = break_even_rank(d_in, d_out);
    const auto down = [&](double rank) {
        return static_cast<std::int64_t>(rank) / options.multiple * options.multiple;
    };
    std::int64_t highest = std::min(down(break_even * options.cap), down(break_even));
    while (highest > 0 && !saves_parameters(d_in, d_out, highest)) highest -= options.multiple;
    const std::int64_t lowest = std::max(options.multiple, down(break_even * options.floor));
    if (lowest > highest) return std::nullopt;
    return std::pair{lowest, highest};
}

namespace detail {

/// sum_{i >= rank} s_i^2, of values beyond those given too. From the tail where it is all there: the difference of the
/// whole and the head has lost its digits.
inline double squared_beyond(const AllocationLayer& layer, std::int64_t rank) {
    double head = 0;
    double tail = 0;
    const auto begin = static_cast<std::size_t>(rank);
    for (std::size_t i = 0; i < begin; ++i) head += layer.spectrum[i] * layer.spectrum[i];
    for (std::size_t i = layer.spectrum.size(); i-- > begin;) tail += layer.spectrum[i] * layer.spectrum[i];
    if (static_cast<std::int64_t>(layer.spectrum.size()) == std::min(layer.d_in, layer.d_out)) return tail;
    return std::max(tail, layer.squared_norm - head);
}

/// The choices of one layer in the order of their cost: ranks, then dense.
class LayerChoices {
public:
    LayerChoices(const AllocationLayer& layer, const AllocationOptions& options) : layer_(layer) {
        const std::int64_t dense = layer.d_in * layer.d_out;
        if (const auto range = allocatable_ranks(layer.d_in, layer.d_out, options)) {
            const auto [lowest, highest] = *range;
            if (static_cast<std::int64_t>(layer.spectrum.size()) < highest) {
                throw ValueError("a layer of " + shape_string(layer.d_in, layer.d_out) + " has " +
                                 std::to_string(layer.spectrum.size()) + " singular values, but its rank may become " +
                                 std::to_string(highest));
            }
            for (std::int64_t rank = lowest; rank <= highest; rank += options.multiple) ranks_.push_back(rank);
            losses_.resize(ranks_.size());
            double tail = squared_beyond(layer, highest);
            for (std::size_t i = ranks_.size(); i-- > 0;) {
                losses_[i] = layer.sensitivity * tail;
                const std::int64_t below = i > 0 ? ranks_[i - 1] : ranks_[i];
                for (std::int64_t k = ranks_[i]; k > below; --k) tail += square(k - 1);
            }
        }
        losses_.push_back(0);
        dense_cost_ = dense;
        hull();
    }

    [[nodiscard]] std::size_t dense() const { return ranks_.size(); }
    [[nodiscard]] std::int64_t cost(std::size_t choice) const {
        return choice == dense() ? dense_cost_ : low_rank_parameters(layer_.d_in, layer_.d_out, ranks_[choice]);
    }
    [[nodiscard]] double loss(std::size_t choice) const { return losses_[choice]; }
    /// The choices on the lower convex hull of (cost, loss).
    [[nodiscard]] const std::vector<std::size_t>& hull_choices() const { return hull_; }
    /// Loss saved per parameter from one choice to another.
    [[nodiscard]] double efficiency(std::size_t from, std::size_t to) const {
        return (loss(from) - loss(to)) / static_cast<double>(cost(to) - cost(from));
    }
    [[nodiscard]] RankChoice choice(std::size_t choice) const {
        if (choice < dense()) return {ranks_[choice], false};
        return {static_cast<std::int64_t>(std::ceil(break_even_rank(layer_.d_in, layer_.d_out))), true};
    }

private:
    [[nodiscard]] double square(std::int64_t i) const {
        const double s = layer_.spectrum[static_cast<std::size_t>(i)];
        return s * s;
    }

    void hull() {
        for (std::size_t i = 0; i <= dense(); ++i) {
            while (hull_.size() > 1 &&
                   efficiency(hull_.back(), i) >= efficiency(hull_[hull_.size() - 2], hull_.back())) {
                hull_.pop_back();
            }
            hull_.push_back(i);
        }
    }

    const AllocationLayer& layer_;
    std::vector<std::int64_t> ranks_;
    std::vector<double> losses_;
    std::vector<std::size_t> hull_;
    std::int64_t dense_cost_ = 0;
};

/// The next step of a layer; the most efficient is on top of a queue, and of equals that of the first layer.
struct AllocationStep {
    double efficiency = 0;
    std::size_t layer = 0;
    std::size_t to = 0;  // a choice, or a place on the hull

    friend bool operator<(const AllocationStep& a, const AllocationStep& b) {
        return std::tuple(a.efficiency, b.layer) < std::tuple(b.efficiency, a.layer);
    }
};

inline void check_layers(std::span<const AllocationLayer> layers) {
    for (const AllocationLayer& layer : layers) {
        bool good = is_finite(layer.sensitivity) && layer.sensitivity >= 0 && is_finite(layer.squared_norm);
        for (const double s : layer.spectrum) good = good && is_finite(s);
        if (good) continue;
        throw ValueError("a layer of " + shape_string(layer.d_in, layer.d_out) +
                         " has a sensitivity or a singular value that is negative or not finite");
    }
}

}  // namespace detail

/// Throws ValueError for a budget that the layers exceed at their lowest ranks, or that would leave all of them dense.
/// Only their shapes are read.
inline void check_budget(std::span<const AllocationLayer> layers, std::int64_t budget,
                         const AllocationOptions& options = {}) {
    std::int64_t lowest = 0;
    std::int64_t dense = 0;
    for (const AllocationLayer& layer : layers) {
        const std::int64_t whole = layer.d_in * layer.d_out;
        const auto ranks = allocatable_ranks(layer.d_in, layer.d_out, options);
        lowest += ranks ? low_rank_parameters(layer.d_in, layer.d_out, ranks->first) : whole;
        dense += whole;
    }
    const std::string of =
        "a budget of " + std::to_string(budget) + " parameters for " + std::to_string(layers.size()) + " layers ";
    if (budget < lowest) {
        throw ValueError(of + "is below the " + std::to_string(lowest) +
                         " that they take at their lowest ranks; raise it or lower the floor or the multiple");
    }
    if (budget >= dense) {
        throw ValueError(of + "is not below the " + std::to_string(dense) + " that they take as they are");
    }
}

/// Splits `budget` parameters over `layers`. O(n log n) for n ranks in all. Throws ValueError for a budget that the
/// floor exceeds or that would leave all layers dense, and for options or layers out of their domain.
inline Allocation allocate(std::span<const AllocationLayer> layers, std::int64_t budget,
                           const AllocationOptions& options = {}) {
    detail::check_layers(layers);
    check_budget(layers, budget, options);
    std::vector<detail::LayerChoices> choices;
    choices.reserve(layers.size());
    std::int64_t left = budget;
    for (const AllocationLayer& layer : layers) {
        choices.emplace_back(layer, options);
        left -= choices.back().cost(0);
    }

    // Along the hulls, until the budget ends within a step.
    std::vector<std::size_t> chosen(layers.size());
    std::priority_queue<detail::AllocationStep> steps;
    const auto push_hull = [&](std::size_t layer, std::size_t to) {
        const auto& hull = choices[layer].hull_choices();
        if (to < hull.size()) steps.push({choices[layer].efficiency(hull[to - 1], hull[to]), layer, to});
    };
    for (std::size_t l = 0; l < layers.size(); ++l) push_hull(l, 1);
    double saved_by_rest = 0;  // of the relaxation
    while (!steps.empty()) {
        const detail::AllocationStep step = steps.top();
        steps.pop();
        const std::size_t to = choices[step.layer].hull_choices()[step.to];
        const std::int64_t cost = choices[step.layer].cost(to) - choices[step.layer].cost(chosen[step.layer]);
        if (cost > left) {
            saved_by_rest = step.efficiency * static_cast<double>(left);
            break;
        }
        left -= cost;
        chosen[step.layer] = to;
        push_hull(step.layer, step.to + 1);
    }
    Allocation result;
    for (std::size_t l = 0; l < layers.size(); ++l) result.bound += choices[l].loss(chosen[l]);
    result.bound -= saved_by_rest;

    // What is left: single steps that fit.
    steps = {};
    const auto push_single = [&](std::size_t layer) {
        const std::size_t at = chosen[layer];
        if (at == choices[layer].dense()) return;
        if (choices[layer].cost(at + 1) - choices[layer].cost(at) > left) return;
        steps.push({choices[layer].efficiency(at, at + 1), layer, at + 1});
    };
    for (std::size_t l = 0; l < layers.size(); ++l) push_single(l);
    while (!steps.empty()) {
        const detail::AllocationStep step = steps.top();
        steps.pop();
        const std::int64_t cost = choices[step.layer].cost(step.to) - choices[step.layer].cost(chosen[step.layer]);
        if (cost > left) continue;
        left -= cost;
        chosen[step.layer] = step.to;
        push_single(step.layer);
    }
    for (std::size_t l = 0; l < layers.size(); ++l) {
        result.choices.push_back(choices[l].choice(chosen[l]));
        result.parameters += choices[l].cost(chosen[l]);
        result.loss += choices[l].loss(chosen[l]);
    }
    return result;
}

/// The same part of every layer's parameters, to compare with: ranks rounded down. Throws as allocate() does.
inline Allocation allocate_uniform(std::span<const AllocationLayer> layers, std::int64_t budget,
                                   const AllocationOptions& options = {}) {
    std::int64_t dense = 0;
    for (const AllocationLayer& layer : layers) dense += layer.d_in * layer.d_out;
    Allocation result;
    result.bound = allocate(layers, budget, options).bound;
    const double share = static_cast<double>(budget) / static_cast<double>(dense);
    for (const AllocationLayer& layer : layers) {
        const auto ranks = allocatable_ranks(layer.d_in, layer.d_out, options);
        if (!ranks) {
            result.choices.push_back({1, true});
            result.parameters += layer.d_in * layer.d_out;
            continue;
        }
        const auto wanted = choose_rank(parameter_share(share).aligned(options.multiple), layer.d_in, layer.d_out);
        const std::int64_t rank = std::min(wanted.rank, ranks->second);
        result.choices.push_back({rank, false});
        result.parameters += low_rank_parameters(layer.d_in, layer.d_out, rank);
        result.loss += layer.sensitivity * detail::squared_beyond(layer, rank);
    }
    return result;
}

}  // namespace lowrank
