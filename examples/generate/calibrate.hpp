// generate - the calibration statistics of a model on a text: what flows into its linear layers, and what the loss asks
// of their outputs.
// SPDX-License-Identifier: MIT
//
//     const ModelConfig config = read_config(folder);
//     Tokenizer tokenizer = load_tokenizer(folder, config.vocabulary);
//     const CalibrationText text = read_calibration_text(tokenizer, config, "text.txt", {});
//     calibrate(cpu, folder, config, text, {}, calibration_type(cpu, folder), "stats.safetensors", progress);
//
// The result is what examples/python/collect_statistics.py writes (<lowrank/checkpoint/statistics_format.hpp>), for all
// linear layers but the head. The text goes through one block after the other, all windows at a time, and the loss's
// gradient back from the last to the first; the blocks' inputs wait in a temporary file beside the result. So memory
// holds one block's weights, sums and buffers and two or three rows of `hidden` floats for each token.
#pragma once

#include "config.hpp"
#include "language_model.hpp"
#include "tokenizer.hpp"

#include <lowrank/cpu/context.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace engine {

/// Enough for a model of the size of SmolLM2; where a text has fewer, all of them are used.
struct CalibrationSize {
    std::int64_t tokens = 32768;
    std::int64_t gradient_tokens = 16384;  ///< of the windows that begin before it; 0: inputs only
    std::int64_t window = 512;             ///< tokens that see each other
};

struct CalibrationText {
    std::vector<Token> tokens;
    std::string hash;  ///< of the file's bytes
};

/// The beginning of a text file, in tokens. Throws ValueError, naming the file, for fewer tokens than one window, or if
/// the window is above the model's context; IoError.
CalibrationText read_calibration_text(Tokenizer& tokenizer, const ModelConfig& config,
                                      const std::filesystem::path& file, const CalibrationSize& size);

/// The linear layers that the statistics are of.
std::vector<std::string> calibrated_modules(const ModelConfig& config);

struct CalibrationProgress {
    const char* step = "";   ///< "forward" or "backward"
    std::int64_t block = 0;  ///< from 1
    std::int64_t blocks = 0;
    double share = 0;  ///< of the whole work that is done
};

/// "forward, block 3 of 30, 12 %".
std::string calibration_text(const CalibrationProgress& progress);

/// What was written.
struct CalibrationResult {
    std::int64_t layers = 0;
    std::int64_t tokens = 0;
    std::int64_t gradient_tokens = 0;
    bool finished = false;
};

/// What linear layers should be stored in and read where a text goes through a model: bf16 where the model's weights
/// are and the machine multiplies it twice as fast, else float. It rounds activations as inference in bf16 does, by
/// 2^-9, which moves the statistics by less than another text would.
StorageType calibration_type(const lowrank::cpu::Context& context, const std::filesystem::path& model);

/// Writes the statistics to `out`, which appears when they are complete. `type` is f32 or bf16, else ValueError is
/// thrown. `progress` returns false to stop, and then there is no file. Low-rank layers count as the product of their
/// factors. Throws a lowrank::Error that names the file or tensor, also for activations or gradients that are not
/// finite.
CalibrationResult calibrate(const lowrank::cpu::Context& context, const std::filesystem::path& model,
                            const ModelConfig& config, const CalibrationText& text, const CalibrationSize& size,
                            StorageType type, const std::filesystem::path& out,
                            const std::function<bool(const CalibrationProgress&)>& progress);

}  // namespace engine
