// lowrank - compressing a checkpoint to given ranks or rules, each layer in the norm of its statistics.
// SPDX-License-Identifier: MIT
//
// As compress() does, with decompose(W, calibration) in the place of decompose(W): rules of energy and error refer to
// the weighted norm. Where ranks are to follow from a budget, see calibrated_compress.hpp.
//
//     const lowrank::CompressPlan plan = lowrank::plan_compression(model, config);
//     lowrank::CompressReport report = lowrank::compress(cpu, model, plan, statistics, out);
#pragma once

#include <lowrank/checkpoint/compress.hpp>
#include <lowrank/checkpoint/layer_statistics.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose_calibrated.hpp>

#include <string>

namespace lowrank {

namespace detail {

/// Factorises a layer in its norm.
struct WeightedFactoriser {
    const cpu::Context& context;
    const CompressOptions& options;
    LayerStatisticsReader statistics;

    template <class T>
    void write(SafetensorsWriter& file, const SafetensorsReader& shard, const PlannedLayer& layer,
               CompressedLayer& result) {
        const std::string subject = path_text(shard.path()) + ": tensor " + name_text(layer.weight->name);
        const Matrix<T> weight = shard.template matrix<T>(*layer.weight);
        shard.release(*layer.weight);
        const auto factors =
            cpu::decompose_weighted(context, const_view(weight), statistics.weighting(context, layer.module),
                                    {.rank = layer.rule,
                                     .layout = WeightLayout::out_in,
                                     .method = options.method,
                                     .excess = options.excess,
                                     .singular_values = false,
                                     .seed = options.seed,
                                     .name = subject});
        write_factors<T>(file, layer, factors, subject, result);
        result.weighted_error = result.choice->dense ? 0 : factors.weighted_error;
    }
};

}  // namespace detail

/// Carries out `plan` into `out`, and commits it, with every layer's error weighted by its statistics; `gradients`: use
/// those that there are. Throws ValueError or ShapeError, before any work, if the statistics lack a layer that is not
/// to stay dense or do not fit it; as compress() does; and ValueError for sums that no tokens can have.
inline CompressReport compress(const cpu::Context& context, const ModelFolder& model, const CompressPlan& plan,
                               const Statistics& statistics, OutputFolder& out, const CompressOptions& options = {},
                               bool gradients = true) {
    const detail::LayerStatisticsReader reader(statistics, gradients);
    for (const PlannedLayer& layer : plan.layers) {
        if (!layer.choice || !layer.choice->dense) reader.require(model, layer);
    }
    return detail::Compressor<detail::WeightedFactoriser>({context, options, reader}, model, plan, out, options).run();
}

}  // namespace lowrank
