// Calibration statistics that compress makes of a text. text_engine.cpp does it where the engine of `generate` is
// built, text_none.cpp refuses.
#pragma once

#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/factor_store.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

struct TextOptions {
    std::filesystem::path file;
    std::int64_t tokens = 32768;
    std::int64_t gradient_tokens = 16384;
    std::int64_t refit_tokens = 32768;        ///< 0: the factors of each layer on its own
    std::optional<std::int64_t> window = {};  ///< tokens that see each other; 512, or the model's context if shorter
};

/// A text that was read and fits its model.
struct PreparedText {
    std::vector<std::string> modules = {};  ///< the layers that its statistics are of
    /// Makes the statistics, and writes them to a file. Throws a lowrank::Error.
    std::function<void(const lowrank::cpu::Context&, const std::filesystem::path&)> write_statistics = {};
    /// Fits the factors of a plan's layers to each other (generate/refit.hpp); the result's data lies in the folder.
    /// Empty where that is not wanted or not known how.
    std::function<lowrank::FactorStore(const lowrank::cpu::Context&, const lowrank::CompressPlan&,
                                       const lowrank::Statistics&, const lowrank::FactorStore&,
                                       const std::filesystem::path&)>
        refit = {};
};

/// Throws a lowrank::Error for a text that cannot be read or is too short; and, naming the way round it, for a model
/// that the engine cannot run.
PreparedText read_text(const std::filesystem::path& model, const TextOptions& options, bool quiet);

constexpr const char* kOtherStatistics =
    "; statistics of other models come from examples/python/collect_statistics.py, for --calibration";
