// lowrank - writes statistics files (statistics_format.hpp) as a stream.
// SPDX-License-Identifier: MIT
//
//     lowrank::StatisticsWriter out("stats.safetensors", modules);    // the layers that there will be
//     out.write_input("layers.0.q_proj", readers, inputs);            // readers: its q_proj, k_proj and v_proj
//     out.write_gradient("layers.0.q_proj", gradients);
//     out.commit({lowrank::text_hash(text)});
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/safetensors_writer.hpp>
#include <lowrank/checkpoint/statistics_format.hpp>
#include <lowrank/error.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// Writes a statistics file as a stream: no more than one Gram matrix is in memory here, and the file appears under
/// its name only by `commit`.
class StatisticsWriter {
public:
    /// `modules` are the layers that may come, and `texts` the number of hashes: they bound the header. Throws IoError.
    StatisticsWriter(std::filesystem::path path, std::span<const std::string> modules, std::size_t texts = 1)
        : file_(std::move(path), capacity(modules, texts)) {}

    /// The sums of the input that the layers `readers` share, under the name `input`: one of `modules`, by convention
    /// the first layer that reads it. Throws ValueError for a name that was written already, IoError.
    void write_input(const std::string& input, std::span<const std::string> readers, const Moments& sums) {
        for (const std::string& module : readers) {
            LayerStatistics& layer = layers_[module];
            layer.input = input;
            layer.tokens = sums.rows();
        }
        write_gram(input + detail::kInputGram, sums);
        if (sums.sum().empty()) return;
        file_.begin(input + detail::kInputSum, "F32", {sums.sum().size()});
        const std::vector<float> rounded(sums.sum().begin(), sums.sum().end());
        file_.write(std::as_bytes(std::span(rounded)));
    }

    /// The sums of the gradients at a layer's outputs. Throws as `write_input` does.
    void write_gradient(const std::string& module, const Moments& sums) {
        layers_[module].gradient_tokens = sums.rows();
        write_gram(module + detail::kGradientGram, sums);
    }

    /// `texts`: hashes of the calibration texts. Throws ValueError for a layer with gradients and no input, or if more
    /// came than was announced; IoError.
    void commit(const std::vector<std::string>& texts) {
        for (const auto& [module, layer] : layers_) {
            if (!layer.input.empty()) continue;
            throw ValueError("the statistics of " + detail::name_text(module) + " lack those of its input");
        }
        file_.commit(detail::statistics_metadata(layers_, texts));
    }

private:
    static std::uint64_t capacity(std::span<const std::string> modules, std::size_t texts) {
        constexpr std::int64_t kLongest = 999'999'999'999'999'999;
        std::map<std::string, LayerStatistics> layers;
        std::vector<TensorInfo> tensors;
        std::string longest;
        for (const std::string& module : modules) {
            if (module.size() > longest.size()) longest = module;
            for (const char* kind : {detail::kInputGram, detail::kInputSum, detail::kGradientGram}) {
                constexpr std::uint64_t kSize = kLongest;
                tensors.push_back({module + kind, "F32", {kSize}, kSize, kSize});
            }
        }
        for (const std::string& module : modules) layers[module] = {longest, kLongest, kLongest};
        return safetensors_header_text(
                   tensors, detail::statistics_metadata(layers, std::vector<std::string>(texts, text_hash(""))))
            .size();
    }

    void write_gram(const std::string& name, const Moments& sums) {
        const auto width = static_cast<std::uint64_t>(sums.width());
        file_.begin(name, "F32", {width * (width + 1) / 2});
        std::vector<float> row;
        for (std::int64_t i = 0; i < sums.width(); ++i) {
            row.clear();
            for (std::int64_t j = i; j < sums.width(); ++j) row.push_back(static_cast<float>(sums.gram()(i, j)));
            file_.write(std::as_bytes(std::span(row)));
        }
    }

    SafetensorsWriter file_;
    std::map<std::string, LayerStatistics> layers_;
};

}  // namespace lowrank
