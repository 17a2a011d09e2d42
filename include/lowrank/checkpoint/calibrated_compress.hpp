// lowrank - compressing a checkpoint by its calibration: all layers compete for one budget of parameters.
// SPDX-License-Identifier: MIT
//
// In two steps. First every selected layer is factorised once in the norm of its statistics, to the highest rank that
// saves anything, and its factors go to a FactorStore on disk. Then any number of budgets is split over the layers by
// their spectra (allocate.hpp), and written, each at the price of a copy. Memory is bounded by one layer: its weight,
// two Gram matrices and their roots, and the decomposition.
//
//     const lowrank::ModelFolder model("in");
//     const lowrank::Statistics statistics("stats.safetensors");
//     const lowrank::CalibratedModel calibrated(model, statistics);
//     const lowrank::FactorStore store = calibrated.factorise(cpu, "/tmp");
//     for (const double share : {0.9, 0.8}) {
//         lowrank::OutputFolder out("out-" + std::to_string(share), {.source = "in"});
//         lowrank::CompressReport report = calibrated.compress(cpu, store, calibrated.budget(share), out);
//     }
#pragma once

#include <lowrank/allocate.hpp>
#include <lowrank/checkpoint/competing_layers.hpp>
#include <lowrank/checkpoint/compress.hpp>
#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/factor_store.hpp>
#include <lowrank/checkpoint/layer_statistics.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose_calibrated.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/rank_config.hpp>
#include <lowrank/stopwatch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace lowrank {

struct CalibratedOptions {
    Method method = Method::automatic;
    double excess = 1e-3;          ///< of the fast method, in the weighted norm
    std::uint64_t seed = 0;        ///< of the fast method
    bool gradients = true;         ///< use those that the statistics have; else the inputs alone
    bool uniform = false;          ///< the same part of every layer's parameters, instead of the best split
    AllocationOptions ranks = {};  ///< floor, cap and multiple
    std::function<void(const CompressProgress&)> progress = {};
};

namespace detail {

/// Writes the leading ranks of what a FactorStore holds.
struct StoredFactoriser {
    const cpu::Context& context;
    const FactorStore& store;

    template <class T>
    void write(SafetensorsWriter& file, const SafetensorsReader& shard, const PlannedLayer& layer,
               CompressedLayer& result) const {
        const std::string subject = path_text(shard.path()) + ": tensor " + name_text(layer.weight->name);
        const StoredLayer& stored = *store.find(layer.module);
        const std::int64_t rank = layer.choice->rank;
        const Matrix<T> first = store.input_factor<T>(stored, rank, layer.d_in);
        const Matrix<T> second = store.output_factor<T>(stored, rank, layer.d_out);
        result.method = stored.method;
        result.weighted_error = weighted_error(stored, layer);
        result.relative_error = plain_error(shard.template matrix<T>(*layer.weight), first, second);
        shard.release(*layer.weight);
        write_matrix(file, layer.module + ".w1", transposed_as<T>(second.view(), subject));
        write_matrix(file, layer.module + ".w2", first);
    }

    static double weighted_error(const StoredLayer& stored, const PlannedLayer& layer) {
        if (!(stored.weighted_norm > 0)) return 0;
        const AllocationLayer known = stored.competitor(layer.d_in, layer.d_out);
        return std::sqrt(squared_beyond(known, layer.choice->rank) / known.squared_norm);
    }

    /// Of the factors as they are stored, so that their rounding counts.
    template <class T>
    [[nodiscard]] double plain_error(const Matrix<T>& weight, const Matrix<T>& first, const Matrix<T>& second) const {
        using C = compute_t<T>;
        Matrix<C> rest(weight.rows(), weight.cols());
        std::transform(weight.data(), weight.data() + weight.size(), rest.data(),
                       [](T value) { return static_cast<C>(value); });
        const double norm = cpu::squared_norm(context, const_view(rest));
        cpu::gemm(context, C(-1), second, cpu::Transpose::yes, first, cpu::Transpose::no, C(1), rest.view());
        return norm > 0 ? std::sqrt(cpu::squared_norm(context, const_view(rest)) / norm) : 0;
    }
};

}  // namespace detail

/// A model, the layers of it that compete, and their statistics. Borrows both, which must outlive it.
class CalibratedModel {
public:
    /// Selects the layers that `names` match (as in RankConfig; none: all that the statistics know). Throws ValueError
    /// or ShapeError if the statistics are of another model, or know nothing of a selected layer, and as
    /// plan_compression does.
    CalibratedModel(const ModelFolder& model, const Statistics& statistics, std::span<const std::string> names = {},
                    CalibratedOptions options = {})
        : model_(model),
          statistics_(statistics),
          options_(std::move(options)),
          layers_(statistics, options_.gradients),
          competing_(names.empty() ? CompetingLayers(model, known_layers(), options_.ranks)
                                   : CompetingLayers(model, names, options_.ranks)),
          plan_(competing_.plan()) {
        check();
    }

    /// As those of CompetingLayers.
    [[nodiscard]] const CompressPlan& plan() const { return plan_; }
    [[nodiscard]] std::int64_t selected() const { return competing_.selected(); }
    [[nodiscard]] std::int64_t budget(double share) const { return competing_.budget(share); }
    [[nodiscard]] std::int64_t budget_of_model(std::int64_t target) const { return competing_.budget_of_model(target); }

    /// Factorises every selected layer, in the order of their inputs. The store keeps its data in `folder`. Throws
    /// ValueError for statistics or a weight that are not finite, IoError.
    [[nodiscard]] FactorStore factorise(const cpu::Context& context, const std::filesystem::path& folder) const {
        FactorStore store(folder);
        std::vector<std::size_t> order(plan_.layers.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return first_reader(a) < first_reader(b); });
        const Stopwatch all;
        detail::RemainingTime remaining;
        std::vector<CompressedLayer> layers;
        for (const PlannedLayer& layer : plan_.layers) {
            layers.push_back(planned(layer));
            remaining.add_layer(layers.back());
        }
        detail::LayerStatisticsReader statistics = layers_;
        std::int64_t done = 0;
        for (const std::size_t i : order) {
            const Stopwatch own;
            const PlannedLayer& layer = plan_.layers[i];
            visit_scalar(layer.weight->dtype, [&]<class T>(std::type_identity<T>) {
                factorise_layer<T>(context, layer, statistics, store);
            });
            layers[i].seconds = own.seconds();
            remaining.layer_done(layers[i], *layers[i].seconds);
            if (options_.progress) {
                options_.progress(
                    {&layers[i], ++done, static_cast<std::int64_t>(layers.size()), all.seconds(), remaining.seconds()});
            }
        }
        return store;
    }

    /// The plan with the choices that the budget gives each layer. Throws ValueError for a budget out of range.
    [[nodiscard]] CompressPlan split(const FactorStore& store, std::int64_t budget) const {
        return with_choices(allocation(store, budget), budget);
    }

    /// Splits the budget, writes the folder, and commits it. Throws ValueError for a budget out of range, IoError.
    CompressReport compress(const cpu::Context& context, const FactorStore& store, std::int64_t budget,
                            OutputFolder& out) const {
        const Allocation split = allocation(store, budget);
        const CompressPlan plan = with_choices(split, budget);
        const CompressOptions options{.method = options_.method, .progress = options_.progress};
        CompressReport report =
            detail::Compressor<detail::StoredFactoriser>({context, store}, model_, plan, out, options).run();
        report.calibration = note(split, budget);
        for (CompressedLayer& layer : report.layers) {
            *layer.seconds += store.find(layer.module)->seconds;
            if (layer.dense()) layer.relative_error = layer.weighted_error = 0;
        }
        return report;
    }

private:
    [[nodiscard]] std::string subject() const { return detail::path_text(statistics_.path()); }

    /// Of the statistics, and so of the model.
    [[nodiscard]] std::vector<std::string> known_layers() const {
        std::vector<std::string> modules;
        for (const auto& [module, layer] : statistics_.layers()) {
            if (!model_.find(module + std::string(detail::kWeight))) {
                throw ValueError(subject() + ": statistics of another model: " + detail::path_text(model_.folder()) +
                                 " has no layer " + detail::name_text(module));
            }
            modules.push_back(module);
        }
        if (modules.empty()) throw ValueError(subject() + ": knows of no layer");
        return modules;
    }

    void check() {
        for (const PlannedLayer& layer : plan_.layers) {
            layers_.require(model_, layer);
            const bool gradients = layers_.has_gradients(layer.module);
            if (gradients == layers_.has_gradients(plan_.layers.front().module)) continue;
            throw ValueError(subject() + ": statistics of " + detail::name_text(layer.module) +
                             (gradients ? " have" : " lack") +
                             " gradients, unlike those of other layers: their losses cannot be compared");
        }
        warn_of_few_tokens();
    }

    void warn_of_few_tokens() {
        std::int64_t few = 0;
        std::int64_t least = std::numeric_limits<std::int64_t>::max();
        for (const PlannedLayer& layer : plan_.layers) {
            const auto ranks = allocatable_ranks(layer.d_in, layer.d_out, options_.ranks);
            const std::int64_t tokens = statistics_.find(layer.module)->tokens;
            if (!ranks || tokens >= ranks->second) continue;
            ++few;
            least = std::min(least, tokens);
        }
        if (few == 0) return;
        plan_.warnings.push_back(subject() + ": the inputs of " + std::to_string(few) + " layers were seen for " +
                                 std::to_string(least) +
                                 " tokens only, fewer than the ranks that may be asked: calibrate on more text");
    }

    /// Layers that read one input stand together, at the place of the first of them.
    [[nodiscard]] std::size_t first_reader(std::size_t layer) const {
        const std::string& input = statistics_.find(plan_.layers[layer].module)->input;
        for (std::size_t i = 0; i < layer; ++i) {
            if (statistics_.find(plan_.layers[i].module)->input == input) return i;
        }
        return layer;
    }

    template <class T>
    void factorise_layer(const cpu::Context& context, const PlannedLayer& layer,
                         detail::LayerStatisticsReader& statistics, FactorStore& store) const {
        const Stopwatch own;
        const cpu::Weighting weighting = statistics.weighting(context, layer.module);
        const StoredTensor weight = model_.at(layer.weight->name);
        const std::string name =
            detail::path_text(weight.shard->path()) + ": tensor " + detail::name_text(layer.weight->name);
        const auto ranks = allocatable_ranks(layer.d_in, layer.d_out, options_.ranks);
        const auto factors = cpu::decompose_weighted(context, const_view(weight.matrix<T>()), weighting,
                                                     {.rank = fixed_rank(ranks ? ranks->second : 1),
                                                      .layout = WeightLayout::out_in,
                                                      .method = options_.method,
                                                      .excess = options_.excess,
                                                      .seed = options_.seed,
                                                      .name = name});
        weight.shard->release(*layer.weight);
        store.put<T>(layer.module, factors, own.seconds(), name);
    }

    [[nodiscard]] Allocation allocation(const FactorStore& store, std::int64_t budget) const {
        std::vector<AllocationLayer> layers;
        for (const PlannedLayer& layer : plan_.layers) {
            layers.push_back(store.find(layer.module)->competitor(layer.d_in, layer.d_out));
            // Half: the second-order term of the loss.
            if (layers_.has_gradients(layer.module)) layers.back().sensitivity = 0.5;
        }
        return options_.uniform ? allocate_uniform(layers, budget) : allocate(layers, budget, options_.ranks);
    }

    [[nodiscard]] CompressPlan with_choices(const Allocation& split, std::int64_t budget) const {
        CompressPlan plan = plan_;
        const double share = static_cast<double>(budget) / static_cast<double>(selected());
        for (std::size_t i = 0; i < plan.layers.size(); ++i) {
            PlannedLayer& layer = plan.layers[i];
            layer.choice = split.choices[i];
            layer.rule = parameter_share(share);
            if (layer.choice->dense) continue;
            const auto saved = static_cast<std::uint64_t>(
                layer.d_in * layer.d_out - low_rank_parameters(layer.d_in, layer.d_out, layer.choice->rank));
            plan.after.parameters -= saved;
            plan.after.bytes -= saved * dtype_size(layer.weight->dtype);
        }
        plan.exact = true;
        return plan;
    }

    [[nodiscard]] CalibrationNote note(const Allocation& split, std::int64_t budget) const {
        CalibrationNote note{.statistics = statistics_.path(),
                             .texts = statistics_.texts(),
                             .budget = budget,
                             .selected = selected(),
                             .loss = split.loss,
                             .gap = split.gap()};
        note.tokens = note.gradient_tokens = std::numeric_limits<std::int64_t>::max();
        for (const PlannedLayer& layer : plan_.layers) {
            const LayerStatistics& known = *statistics_.find(layer.module);
            note.tokens = std::min(note.tokens, known.tokens);
            note.gradient_tokens =
                std::min(note.gradient_tokens, layers_.has_gradients(layer.module) ? known.gradient_tokens : 0);
        }
        return note;
    }

    const ModelFolder& model_;
    const Statistics& statistics_;
    CalibratedOptions options_;
    detail::LayerStatisticsReader layers_;
    CompetingLayers competing_;
    CompressPlan plan_;  ///< of the competing layers, with warnings about their statistics
};

}  // namespace lowrank
