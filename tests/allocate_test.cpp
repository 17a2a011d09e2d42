// allocate() against the best of all allocations, found by trying them all.
// SPDX-License-Identifier: MIT
#include <lowrank/allocate.hpp>

#include "catch.hpp"
#include "common.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace lowrank;
using test::message;

namespace {

struct Layers {
    std::vector<std::vector<double>> spectra;
    std::vector<AllocationLayer> layers;
    std::int64_t dense = 0;
};

/// Layers of random shapes with power-law spectra of random size and slope.
Layers some_layers(std::size_t count, std::int64_t largest, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<std::int64_t> size(2, largest);
    std::uniform_real_distribution<double> uniform;
    Layers result;
    for (std::size_t l = 0; l < count; ++l) {
        const std::int64_t d_in = size(random);
        const std::int64_t d_out = size(random);
        const double scale = std::exp(3 * uniform(random));
        const double slope = 2 * uniform(random);
        std::vector<double> spectrum;
        for (std::int64_t i = 0; i < std::min(d_in, d_out); ++i) {
            spectrum.push_back(scale * std::pow(static_cast<double>(i + 1), -slope));
        }
        result.spectra.push_back(spectrum);
        result.layers.push_back({d_in, d_out, {}, 0, 0.5 + uniform(random)});
        result.dense += d_in * d_out;
    }
    for (std::size_t l = 0; l < count; ++l) {
        result.layers[l].spectrum = result.spectra[l];
        for (const double s : result.spectra[l]) result.layers[l].squared_norm += s * s;
    }
    return result;
}

double loss_of(const AllocationLayer& layer, const RankChoice& choice) {
    if (choice.dense) return 0;
    double sum = 0;
    for (auto i = static_cast<std::size_t>(choice.rank); i < layer.spectrum.size(); ++i) {
        sum += layer.spectrum[i] * layer.spectrum[i];
    }
    return layer.sensitivity * sum;
}

std::int64_t cost_of(const AllocationLayer& layer, const RankChoice& choice) {
    return choice.dense ? layer.d_in * layer.d_out : low_rank_parameters(layer.d_in, layer.d_out, choice.rank);
}

/// The least loss of the layers from `first` on within the budget, by trying every choice.
double best_loss(std::span<const AllocationLayer> layers, std::int64_t budget, const AllocationOptions& options) {
    if (layers.empty()) return 0;
    const AllocationLayer& layer = layers.front();
    double best = std::numeric_limits<double>::infinity();
    const auto consider = [&](const RankChoice& choice) {
        const std::int64_t cost = cost_of(layer, choice);
        if (cost > budget) return;
        best = std::min(best, loss_of(layer, choice) + best_loss(layers.subspan(1), budget - cost, options));
    };
    if (const auto range = allocatable_ranks(layer.d_in, layer.d_out, options)) {
        for (std::int64_t rank = range->first; rank <= range->second; rank += options.multiple) {
            consider({rank, false});
        }
    }
    consider({0, true});
    return best;
}

}  // namespace

TEST_CASE("An allocation keeps its promises, and no allocation beats its bound", "[allocate]") {
    for (unsigned seed = 0; seed < 40; ++seed) {
        const Layers model = some_layers(4, 14, seed);
        for (const std::int64_t multiple : {1, 2}) {
            for (const double share : {0.5, 0.7, 0.9}) {
                const AllocationOptions options{.floor = 0.2, .cap = seed % 3 == 0 ? 0.8 : 1, .multiple = multiple};
                const auto budget = static_cast<std::int64_t>(share * static_cast<double>(model.dense));
                CAPTURE(seed, multiple, share);
                const double best = best_loss(model.layers, budget, options);
                if (!std::isfinite(best)) {
                    CHECK(message([&] { allocate(model.layers, budget, options); }).find("lowest ranks") !=
                          std::string::npos);
                    continue;
                }
                const Allocation split = allocate(model.layers, budget, options);
                REQUIRE(split.choices.size() == 4);
                std::int64_t cost = 0;
                double loss = 0;
                double largest_step = 0;
                for (std::size_t l = 0; l < 4; ++l) {
                    const AllocationLayer& layer = model.layers[l];
                    const RankChoice& choice = split.choices[l];
                    cost += cost_of(layer, choice);
                    loss += loss_of(layer, choice);
                    if (choice.dense) continue;
                    const auto range = allocatable_ranks(layer.d_in, layer.d_out, options);
                    REQUIRE(range);
                    CHECK(choice.rank >= range->first);
                    CHECK(choice.rank <= range->second);
                    CHECK(choice.rank % multiple == 0);
                    largest_step = std::max(largest_step, loss_of(layer, choice));
                }
                CHECK(cost == split.parameters);
                CHECK(cost <= budget);
                CHECK(split.loss == Approx(loss).margin(1e-9));
                CHECK(split.bound <= best + 1e-9);  // the relaxation can only be better
                CHECK(split.loss >= best - 1e-9);
                CHECK(split.loss - split.bound <= largest_step + 1e-9);  // one item: at most what is left of one layer
            }
        }
    }
}

TEST_CASE("With many small steps the gap closes", "[allocate]") {
    const Layers model = some_layers(60, 200, 3);
    const Allocation split = allocate(model.layers, model.dense * 7 / 10);
    CHECK(split.gap() >= 0);
    CHECK(split.gap() < 0.02);
    CHECK(split.parameters > model.dense * 7 / 10 - 400);  // a rank costs at most 400
}

TEST_CASE("The layer that loses more gets more", "[allocate]") {
    const std::vector<double> spectrum(40, 1.0);
    std::vector<AllocationLayer> layers(2, {40, 40, spectrum, 40, 1});
    layers[1].sensitivity = 5;
    const Allocation split = allocate(layers, 1600, {.floor = 0.1});
    CHECK(split.choices[0].rank == 2);
    CHECK((split.choices[1].rank > 15 || split.choices[1].dense));
}

TEST_CASE("A spectrum that is cut off serves with its norm", "[allocate]") {
    Layers model = some_layers(5, 60, 8);
    const std::int64_t budget = model.dense * 6 / 10;
    const Allocation whole = allocate(model.layers, budget);
    for (AllocationLayer& layer : model.layers) {
        const auto range = allocatable_ranks(layer.d_in, layer.d_out, {});
        if (range) layer.spectrum = layer.spectrum.first(static_cast<std::size_t>(range->second));
    }
    const Allocation cut = allocate(model.layers, budget);
    CHECK(cut.choices == whole.choices);
    CHECK(cut.loss == Approx(whole.loss));
}

TEST_CASE("Zero layers and layers too small to factorise are allocated", "[allocate]") {
    const std::vector<double> zero(10);
    const std::vector<double> one = {1};
    const std::vector<AllocationLayer> layers = {{10, 10, zero, 0, 1}, {1, 1, one, 1, 1}};
    const Allocation split = allocate(layers, 60);
    CHECK(split.loss == 0);
    CHECK(split.gap() == 0);
    CHECK(split.choices[1].dense);
}

TEST_CASE("Budgets and options out of range are refused", "[allocate]") {
    const std::vector<double> spectrum(10, 1.0);
    const std::vector<AllocationLayer> layers(2, {10, 10, spectrum, 10, 1});
    CHECK(message([&] { allocate(layers, 39, {.floor = 0.3}); }) ==
          "a budget of 39 parameters for 2 layers is below the 40 that they take at their lowest ranks; raise it or "
          "lower the floor or the multiple");
    CHECK(message([&] { allocate(layers, 200); }) ==
          "a budget of 200 parameters for 2 layers is not below the 200 that they take as they are");
    CHECK(message([&] { allocate(layers, 100, {.floor = 1.5}); }).find("floor <= cap") != std::string::npos);
    CHECK(message([&] { allocate(layers, 100, {.cap = 2}); }).find("floor <= cap") != std::string::npos);
    CHECK(message([&] { allocate(layers, 100, {.multiple = 0}); }).find("multiples of 0") != std::string::npos);
    CHECK(message([&] { check_budget(layers, 100, {.multiple = 0}); }).find("multiples of 0") != std::string::npos);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(message([&] { allocatable_ranks(10, 10, {.floor = nan}); }).find("floor <= cap") != std::string::npos);
    const std::vector<AllocationLayer> negative = {{10, 10, spectrum, 10, -1}};
    CHECK(message([&] { allocate(negative, 50); }).find("negative or not finite") != std::string::npos);
    const std::vector<AllocationLayer> few = {{10, 10, std::span(spectrum).first(3), 10, 1}};
    CHECK(message([&] { allocate(few, 50); }) == "a layer of 10 x 10 has 3 singular values, but its rank may become 4");
}
