// generate - the command line.
// SPDX-License-Identifier: MIT
#pragma once

#include "calibrate.hpp"
#include "language_model.hpp"
#include "sampler.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace engine {

enum class Mode : std::uint8_t { text, perplexity, logits, tokenize, detokenize, speed, calibrate };

struct Arguments {
    Mode mode = Mode::text;
    std::filesystem::path model;
    std::filesystem::path compare;  ///< a second model, or empty
    std::optional<std::string> prompt;
    std::optional<std::string> system;
    bool raw = false;
    bool no_stop = false;
    std::optional<std::int64_t> tokens;  ///< to write, or of the text to read
    Sampling sampling;
    std::filesystem::path text;  ///< for the perplexity or the calibration
    std::int64_t window = 512;
    std::vector<Token> ids;
    std::filesystem::path logits;
    std::int64_t prefill = 0, decode = 0;  ///< tokens of the speed measurement
    std::optional<StorageType> type;
    CalibrationSize calibration;   ///< all but the window
    std::filesystem::path output;  ///< of the calibration
    bool force = false;
    int threads = 0;
    std::filesystem::path json;
    bool quiet = false;
};

/// Throws CLI::ParseError: CLI::Success after help was asked for, else with what is wrong.
Arguments parse_arguments(int argc, char** argv);

}  // namespace engine
