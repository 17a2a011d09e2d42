// lowrank - what compressing a checkpoint will do, from the headers alone.
// SPDX-License-Identifier: MIT
//
// Costs no more than opening the files, whatever the model's size. Everything that can be wrong with a config is found
// here, before any work. Refused: a pattern that matches no layer, two of equal length that match one, a selected
// weight that is not of two dimensions of F32, F64, BF16 or F16, a layer that is factorised already. Only a warning:
// a rank at or above break-even (the layer stays dense).
//
//     lowrank::ModelFolder model("StableLM-3B-4e1t");
//     lowrank::CompressPlan plan = lowrank::plan_compression(model, lowrank::RankConfig::parse("q_proj=384"));
//     std::cout << plan.before.parameters << " -> " << plan.after.parameters << '\n';
#pragma once

#include <lowrank/checkpoint/dtype.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/error.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/rank_config.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lowrank {

/// Elements and bytes of tensors.
struct ModelSize {
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;

    friend bool operator==(const ModelSize&, const ModelSize&) = default;
};

/// A linear layer that the config selects: the tensor MODULE.weight, d_out x d_in as PyTorch stores it.
struct PlannedLayer {
    std::string module;
    std::string pattern;  ///< of the config's entry
    RankRule rule;
    const TensorInfo* weight = nullptr;
    std::int64_t d_in = 0;
    std::int64_t d_out = 0;
    std::optional<RankChoice> choice;  ///< nothing if the rule needs the singular values
};

struct CompressPlan {
    std::vector<PlannedLayer> layers;  ///< in the order of the files and of their bytes
    std::vector<std::string> warnings;
    ModelSize before;
    ModelSize after;    ///< with every layer whose rank is not known yet counted as dense
    bool exact = true;  ///< whether all ranks are known, so that `after` is what will come out

    /// Null if the tensor is copied as it is.
    [[nodiscard]] const PlannedLayer* find(const TensorInfo& tensor) const {
        const auto found = by_weight.find(&tensor);
        return found == by_weight.end() ? nullptr : &layers[found->second];
    }

    std::map<const TensorInfo*, std::size_t> by_weight;  ///< position in `layers`
};

namespace detail {

inline constexpr std::string_view kWeight = ".weight";

/// "model.q_proj" of "model.q_proj.weight"; nothing for another tensor.
inline std::optional<std::string_view> module_of(std::string_view tensor) {
    if (!tensor.ends_with(kWeight) || tensor.size() == kWeight.size()) return std::nullopt;
    return tensor.substr(0, tensor.size() - kWeight.size());
}

/// Throws ValueError if a pattern matches nothing, saying why where the model was compressed before.
inline void require_matches(const ModelFolder& model, const RankConfig& config) {
    std::vector<std::string> modules;
    for (const auto& [name, tensor] : model.tensors()) {
        if (const auto module = module_of(name)) modules.emplace_back(*module);
    }
    for (const RankConfig::Entry& entry : config.entries()) {
        const auto matches = [&](std::string_view module) { return matches_tail(entry.pattern, module); };
        if (std::any_of(modules.begin(), modules.end(), matches)) continue;
        for (const auto& [name, tensor] : model.tensors()) {
            if (!name.ends_with(".w1") || !matches(name.substr(0, name.size() - 3))) continue;
            throw ValueError(path_text(model.folder()) + ": the layers that match " + name_text(entry.pattern) +
                             " are factorised already: there is a tensor " + name_text(name));
        }
    }
    try {
        config.require_all_matched(modules);
    } catch (const ValueError& error) {
        throw ValueError(path_text(model.folder()) + ": " + error.what());
    }
}

inline PlannedLayer plan_layer(const ModelFolder& model, std::string_view module, const RankConfig::Entry& entry,
                               const TensorInfo& weight) {
    const std::string subject = path_text(model.folder()) + ": tensor " + name_text(weight.name);
    if (weight.shape.size() != 2 || weight.elements() == 0 || !is_scalar_dtype(weight.dtype)) {
        throw ValueError(subject + " of shape " + shape_text(weight.shape) + " and type " + name_text(weight.dtype) +
                         ", selected by " + name_text(entry.pattern) +
                         ", cannot be factorised: only weights of 2 dimensions of F32, F64, BF16 or F16 can");
    }
    for (const char* suffix : {".w1", ".w2"}) {
        const std::string factor = std::string(module) + suffix;
        if (model.find(factor)) {
            throw ValueError(subject + " cannot be factorised: there already is a tensor " + name_text(factor));
        }
    }
    PlannedLayer layer{.module = std::string(module),
                       .pattern = entry.pattern,
                       .rule = entry.rule,
                       .weight = &weight,
                       .d_in = static_cast<std::int64_t>(weight.shape[1]),
                       .d_out = static_cast<std::int64_t>(weight.shape[0]),
                       .choice = {}};
    const std::int64_t full = std::min(layer.d_in, layer.d_out);
    if (entry.rule.kind() == RankRule::Kind::fixed && entry.rule.value() > static_cast<double>(full)) {
        // Above what the matrix has, and so above break-even too: dense like any rank that saves nothing.
        layer.choice = RankChoice{static_cast<std::int64_t>(entry.rule.value()), true};
    } else if (!entry.rule.needs_spectrum()) {
        layer.choice = choose_rank(entry.rule, layer.d_in, layer.d_out);
    }
    return layer;
}

/// One warning for all layers of a pattern, shape and rank that stay dense.
inline std::vector<std::string> dense_warnings(const std::vector<PlannedLayer>& layers) {
    std::vector<std::pair<std::string, std::int64_t>> counts;
    for (const PlannedLayer& layer : layers) {
        if (!layer.choice || !layer.choice->dense) continue;
        char break_even[32];
        std::snprintf(break_even, sizeof(break_even), "%.1f", break_even_rank(layer.d_in, layer.d_out));
        const std::string text = name_text(layer.pattern) + ": rank " + std::to_string(layer.choice->rank) +
                                 " is not below the break-even rank " + break_even +
                                 " of d_in x d_out = " + shape_string(layer.d_in, layer.d_out) +
                                 ", so it would save nothing: ";
        const auto same = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == text; });
        if (same == counts.end()) {
            counts.emplace_back(text, 1);
        } else {
            ++same->second;
        }
    }
    std::vector<std::string> warnings;
    for (const auto& [text, count] : counts) {
        warnings.push_back(text + std::to_string(count) + (count == 1 ? " layer stays dense" : " layers stay dense"));
    }
    return warnings;
}

/// Tables of embeddings, by the names that Hugging Face's models give them.
inline std::vector<std::string> embedding_warnings(const CompressPlan& plan) {
    std::vector<std::string> warnings;
    for (const PlannedLayer& layer : plan.layers) {
        const std::string last = layer.module.substr(layer.module.rfind('.') + 1);
        if ((layer.choice && layer.choice->dense) || (last.find("embed") == std::string::npos && last != "wte"))
            continue;
        warnings.push_back(name_text(layer.module) + " is an embedding, which is looked up and not multiplied by: " +
                           "engines that expect its weight will not find it");
    }
    return warnings;
}

/// save_model of the safetensors library notes "dropped name": "kept name" in the metadata when two tensors share
/// their memory. Factorising the kept one leaves the dropped one pointing nowhere.
inline std::vector<std::string> tied_warnings(const ModelFolder& model, const CompressPlan& plan) {
    std::vector<std::string> warnings;
    for (const auto& shard : model.shards()) {
        for (const auto& [dropped, kept] : shard->metadata()) {
            const auto tensor = model.find(kept);
            if (!tensor || plan.find(*tensor->info) == nullptr) continue;
            warnings.push_back("the metadata says that " + name_text(dropped) + " shares its data with " +
                               name_text(kept) + ", which is factorised: a loader that ties them will not find it");
        }
    }
    return warnings;
}

}  // namespace detail

/// Throws ValueError for a config that does not fit the model.
inline CompressPlan plan_compression(const ModelFolder& model, const RankConfig& config) {
    detail::require_matches(model, config);
    CompressPlan plan;
    for (const auto& shard : model.shards()) {
        for (const TensorInfo& tensor : shard->tensors()) {
            const ModelSize size{tensor.elements(), tensor.bytes()};
            plan.before.parameters += size.parameters;
            plan.before.bytes += size.bytes;
            ModelSize kept = size;
            const auto module = detail::module_of(tensor.name);
            const RankConfig::Entry* entry = module ? config.find(*module) : nullptr;
            if (entry != nullptr) {
                PlannedLayer layer = detail::plan_layer(model, *module, *entry, tensor);
                if (!layer.choice) plan.exact = false;
                if (layer.choice && !layer.choice->dense) {
                    kept.parameters =
                        static_cast<std::uint64_t>(low_rank_parameters(layer.d_in, layer.d_out, layer.choice->rank));
                    kept.bytes = kept.parameters * dtype_size(tensor.dtype);
                }
                plan.by_weight.emplace(&tensor, plan.layers.size());
                plan.layers.push_back(std::move(layer));
            }
            plan.after.parameters += kept.parameters;
            plan.after.bytes += kept.bytes;
        }
    }
    plan.warnings = detail::dense_warnings(plan.layers);
    for (std::string& warning : detail::tied_warnings(model, plan)) plan.warnings.push_back(std::move(warning));
    for (std::string& warning : detail::embedding_warnings(plan)) plan.warnings.push_back(std::move(warning));
    return plan;
}

}  // namespace lowrank
