// lowrank - reads statistics files (statistics_format.hpp), and merges them.
// SPDX-License-Identifier: MIT
//
//     lowrank::Statistics statistics("stats.safetensors");
//     std::optional<lowrank::Moments> h = statistics.input("model.layers.0.self_attn.k_proj");
//     std::optional<lowrank::Moments> g = statistics.gradient("model.layers.0.self_attn.k_proj");
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/safetensors.hpp>
#include <lowrank/checkpoint/statistics_format.hpp>
#include <lowrank/checkpoint/statistics_writer.hpp>
#include <lowrank/checkpoint/strict_json.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lowrank {

/// A statistics file. Opening reads its header; sums are read when they are asked for.
class Statistics {
public:
    /// Throws IoError, or FormatError if it is not of this format.
    explicit Statistics(std::filesystem::path path) : file_(std::move(path)) { read_metadata(); }

    [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }
    /// By module.
    [[nodiscard]] const std::map<std::string, LayerStatistics>& layers() const { return layers_; }
    /// Hashes of the calibration texts.
    [[nodiscard]] const std::vector<std::string>& texts() const { return texts_; }

    /// Null if the file knows nothing of this layer.
    [[nodiscard]] const LayerStatistics* find(const std::string& module) const {
        const auto found = layers_.find(module);
        return found == layers_.end() ? nullptr : &found->second;
    }

    /// The width of the layer's input, or 0 where the file knows nothing of it; of its output, or 0 where there are no
    /// gradients. Throws FormatError for a size that no triangle has.
    [[nodiscard]] std::int64_t d_in(const std::string& module) const {
        const LayerStatistics* layer = find(module);
        return layer == nullptr ? 0 : width(file_.tensor(layer->input + detail::kInputGram));
    }
    [[nodiscard]] std::int64_t d_out(const std::string& module) const {
        const LayerStatistics* layer = find(module);
        if (layer == nullptr || layer->gradient_tokens == 0) return 0;
        return width(file_.tensor(module + detail::kGradientGram));
    }

    /// The sums over a layer's inputs; nothing if the file knows nothing of it. O(d_in^2). Throws ValueError for sums
    /// that are not finite or have a negative diagonal.
    [[nodiscard]] std::optional<Moments> input(const std::string& module,
                                               const cpu::Context& context = cpu::Context({.threads = 1})) const {
        const LayerStatistics* layer = find(module);
        if (layer == nullptr) return std::nullopt;
        std::vector<double> sum;
        if (const TensorInfo* tensor = file_.find(layer->input + detail::kInputSum)) {
            sum.resize(static_cast<std::size_t>(tensor->elements()));
            file_.copy(*tensor, std::span(sum));
        }
        return moments(context, layer->input + detail::kInputGram, std::move(sum), layer->tokens);
    }

    /// The sums over the gradients at a layer's outputs; nothing if there are none. O(d_out^2). Throws as `input` does.
    [[nodiscard]] std::optional<Moments> gradient(const std::string& module,
                                                  const cpu::Context& context = cpu::Context({.threads = 1})) const {
        const LayerStatistics* layer = find(module);
        if (layer == nullptr || layer->gradient_tokens == 0) return std::nullopt;
        return moments(context, module + detail::kGradientGram, {}, layer->gradient_tokens);
    }

private:
    [[nodiscard]] std::string subject() const { return detail::path_text(path()); }

    void read_metadata() {
        const auto& metadata = file_.metadata();
        const auto version = metadata.find(detail::kStatisticsKey);
        if (version == metadata.end()) {
            throw FormatError(subject() + ": holds no statistics: there is no " + detail::kStatisticsKey +
                              " in its metadata; make them by collect_statistics.py or generate --calibrate");
        }
        if (version->second != detail::kStatisticsVersion) {
            throw FormatError(subject() + ": statistics of version " + detail::name_text(version->second) +
                              "; this program reads version " + detail::kStatisticsVersion);
        }
        if (const auto text = metadata.find(detail::kTextKey); text != metadata.end()) split(text->second);
        const auto layers = metadata.find(detail::kStatisticsLayersKey);
        if (layers == metadata.end()) {
            throw FormatError(subject() + ": there is no " + detail::kStatisticsLayersKey + " in its metadata");
        }
        const nlohmann::ordered_json notes = detail::parse_strict_json(layers->second, path());
        if (!notes.is_object())
            throw FormatError(subject() + ": " + detail::kStatisticsLayersKey + " is not an object");
        for (const auto& [module, entry] : notes.items()) {
            layers_.emplace(module, parse_layer(module, entry));
        }
    }

    void split(std::string_view texts) {
        while (!texts.empty()) {
            const std::size_t comma = texts.find(',');
            texts_.emplace_back(texts.substr(0, comma));
            texts.remove_prefix(comma == std::string_view::npos ? texts.size() : comma + 1);
        }
    }

    [[nodiscard]] LayerStatistics parse_layer(const std::string& module, const nlohmann::ordered_json& entry) const {
        const auto count = [&](const char* key) {
            const auto value = entry.find(key);
            return value != entry.end() && value->is_number_unsigned() ? value->template get<std::int64_t>() : -1;
        };
        const bool named = entry.is_object() && entry.contains("input") && entry["input"].is_string();
        if (!named || count("tokens") < 0 || count("gradient_tokens") < 0) {
            throw FormatError(subject() + ": the entry of " + detail::name_text(module) + " in " +
                              detail::kStatisticsLayersKey +
                              " is not {\"input\": NAME, \"tokens\": COUNT, \"gradient_tokens\": COUNT}");
        }
        LayerStatistics layer{entry["input"].get<std::string>(), count("tokens"), count("gradient_tokens")};
        require_tensor(layer.input + detail::kInputGram);
        if (layer.gradient_tokens > 0) require_tensor(module + detail::kGradientGram);
        return layer;
    }

    void require_tensor(const std::string& name) const {
        if (file_.find(name) != nullptr) return;
        throw FormatError(subject() + ": tensor " + detail::name_text(name) + " is missing");
    }

    /// n of a triangle of n (n + 1) / 2 elements.
    [[nodiscard]] std::int64_t width(const TensorInfo& tensor) const {
        const std::uint64_t count = tensor.elements();
        const auto n = static_cast<std::uint64_t>(std::sqrt(2 * static_cast<double>(count)));
        if (tensor.shape.size() != 1 || n * (n + 1) / 2 != count) {
            throw FormatError(subject() + ": tensor " + detail::name_text(tensor.name) + " of shape " +
                              detail::shape_text(tensor.shape) + " is not the upper triangle of a square matrix");
        }
        return static_cast<std::int64_t>(n);
    }

    [[nodiscard]] Moments moments(const cpu::Context& context, const std::string& name, std::vector<double> sum,
                                  std::int64_t rows) const {
        const TensorInfo& tensor = file_.tensor(name);
        const std::int64_t n = width(tensor);
        auto gram = Matrix<double>::uninitialized(n, n);
        file_.copy_part(tensor, 0, std::span<double>());  // throws for a type that is not known, once
        context.parallel_for(n, [&](std::int64_t i) {
            file_.copy_part(tensor, static_cast<std::uint64_t>(i * n - i * (i - 1) / 2),
                            std::span(gram.row(i) + i, static_cast<std::size_t>(n - i)));
        });
        file_.release(tensor);
        cpu::detail::mirror_upper(context, gram.view());
        return {std::move(gram), std::move(sum), rows, subject() + ": tensor " + detail::name_text(name), context};
    }

    SafetensorsReader file_;
    std::map<std::string, LayerStatistics> layers_;
    std::vector<std::string> texts_;
};

/// Adds the statistics of several workers or texts into one file. Memory: two Gram matrices. Throws ValueError if
/// there are none, or if their layers or the inputs that these share differ; ShapeError if their widths do; IoError.
inline void merge_statistics(std::span<const Statistics> parts, const std::filesystem::path& path) {
    if (parts.empty()) throw ValueError(detail::path_text(path) + ": there are no statistics to merge");
    const auto& layers = parts.front().layers();
    std::vector<std::string> modules;
    std::map<std::string, std::vector<std::string>> readers;  // of each input
    for (const auto& [module, layer] : layers) {
        modules.push_back(module);
        readers[layer.input].push_back(module);
    }
    std::vector<std::string> texts;
    for (const Statistics& part : parts) {
        for (const auto& [module, layer] : part.layers()) {
            const LayerStatistics* first = parts.front().find(module);
            if (part.layers().size() == layers.size() && first != nullptr && first->input == layer.input) continue;
            throw ValueError(detail::path_text(part.path()) + " and " + detail::path_text(parts.front().path()) +
                             " are not of the same model: they differ in " + detail::name_text(module));
        }
        texts.insert(texts.end(), part.texts().begin(), part.texts().end());
    }
    const auto sum = [&](auto get) {
        std::optional<Moments> total;
        for (const Statistics& part : parts) {
            std::optional<Moments> more = get(part);
            if (total && more) {
                total->merge(*more);
            } else if (more) {
                total = std::move(more);
            }
        }
        return total;
    };
    StatisticsWriter out(path, modules, texts.size());
    for (const auto& group : readers) {
        const std::string& reader = group.second.front();
        out.write_input(group.first, group.second, *sum([&](const Statistics& part) { return part.input(reader); }));
    }
    for (const std::string& module : modules) {
        const auto gradient = sum([&](const Statistics& part) { return part.gradient(module); });
        if (gradient) out.write_gradient(module, *gradient);
    }
    out.commit(texts);
}

}  // namespace lowrank
