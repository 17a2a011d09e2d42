// lowrank - lowrank_model(): factorise every layer of a model that a config selects, with progress.
// SPDX-License-Identifier: MIT
//
// For a host engine's own model type: it names its weights, and gets the factors of the selected ones one by one, so
// that no more than one layer's factors need be in memory. Files are the business of <lowrank/checkpoint.hpp>.
//
//     std::vector<NamedWeight<float>> weights = {{"layers.0.q_proj", view, WeightLayout::out_in}, ...};
//     auto reports = lowrank_model(cpu, RankConfig::parse("q_proj=384"), weights,
//         [&](const NamedWeight<float>& layer, Factors<float>&& factors) { engine.replace(layer.name, factors); });
#pragma once

#include <lowrank/decompose.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/rank_config.hpp>
#include <lowrank/stopwatch.hpp>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lowrank {

/// One linear layer of a host's model: its module name and its weight.
template <Scalar T>
struct NamedWeight {
    std::string name;  ///< such as "model.layers.0.self_attn.q_proj"
    MatrixView<const T> weight;
    WeightLayout layout = WeightLayout::out_in;
};

/// What became of one selected layer.
struct LayerReport {
    std::string name;
    std::int64_t d_in = 0;
    std::int64_t d_out = 0;
    std::int64_t rank = 0;      ///< that the rule asks for
    bool dense = false;         ///< left as it was: at this rank the factors would not be smaller
    double relative_error = 0;  ///< 0 if dense
    double seconds = 0;
    Method method = Method::exact;

    [[nodiscard]] std::int64_t parameters_before() const { return d_in * d_out; }
    [[nodiscard]] std::int64_t parameters_after() const {
        return dense ? parameters_before() : low_rank_parameters(d_in, d_out, rank);
    }
};

/// Told after each layer.
struct LayerProgress {
    const LayerReport& layer;
    std::int64_t done = 0;    ///< layers finished, this one included
    std::int64_t layers = 0;  ///< that are selected
    double seconds = 0;       ///< since the start
};

struct ModelOptions {
    Method method = Method::automatic;
    double excess = 1e-3;
    std::uint64_t seed = 0;
    std::function<void(const LayerProgress&)> progress = {};
};

/// Factorises the selected ones of `weights` in their order and hands each result to
/// `take(const NamedWeight<T>&, Factors<compute_t<T>>&&)`. A layer whose rank is at or above break-even stays dense: it
/// is not handed over, and its report says so. Throws ValueError, before any work, if an entry of the config matches no
/// layer; an error in a layer (a NaN, say) leaves with the layer's name in its message, and the layers before it taken.
template <class Context, Scalar T, class Take>
std::vector<LayerReport> lowrank_model(Context& context, const RankConfig& config,
                                       std::span<const NamedWeight<T>> weights, Take&& take,
                                       const ModelOptions& options = {}) {
    std::vector<std::string> names;
    for (const auto& weight : weights) names.push_back(weight.name);
    config.require_all_matched(names);
    std::vector<std::pair<const NamedWeight<T>*, RankRule>> selected;
    for (const auto& weight : weights) {
        if (const RankConfig::Entry* entry = config.find(weight.name)) selected.emplace_back(&weight, entry->rule);
    }

    const Stopwatch all;
    std::vector<LayerReport> reports;
    reports.reserve(selected.size());
    for (const auto& [weight, rule] : selected) {
        const Stopwatch own;
        const bool in_out = weight->layout == WeightLayout::in_out;
        LayerReport report{.name = weight->name,
                           .d_in = in_out ? weight->weight.rows() : weight->weight.cols(),
                           .d_out = in_out ? weight->weight.cols() : weight->weight.rows()};
        if (!rule.needs_spectrum()) {
            const RankChoice choice = choose_rank(rule, report.d_in, report.d_out);
            report.rank = choice.rank;
            report.dense = choice.dense;
        }
        if (!report.dense) {
            auto factors = decompose(context, weight->weight,
                                     {.rank = rule,
                                      .layout = weight->layout,
                                      .method = options.method,
                                      .excess = options.excess,
                                      .seed = options.seed,
                                      .name = weight->name});
            report.rank = factors.rank();
            report.dense = !factors.saves_parameters();
            report.method = factors.method;
            report.relative_error = report.dense ? 0 : factors.relative_error;
            if (!report.dense) take(*weight, std::move(factors));
        }
        report.seconds = own.seconds();
        reports.push_back(std::move(report));
        if (options.progress) {
            options.progress({reports.back(), static_cast<std::int64_t>(reports.size()),
                              static_cast<std::int64_t>(selected.size()), all.seconds()});
        }
    }
    return reports;
}

}  // namespace lowrank
