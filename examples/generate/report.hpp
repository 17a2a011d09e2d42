// generate - what is known of a model after it ran: as a table for people, as JSON for programs.
// SPDX-License-Identifier: MIT
#pragma once

#include "generation.hpp"
#include "language_model.hpp"
#include "perplexity.hpp"
#include "speed.hpp"

#include <lowrank/cpu/context.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace engine {

struct Report {
    std::string model;
    StorageType type = StorageType::f32;
    std::int64_t parameters = 0;
    std::size_t weight_bytes = 0;
    std::int64_t low_rank_layers = 0, linear_layers = 0;
    double load_seconds = 0;
    std::optional<std::size_t> resident_bytes;  ///< of the process, at the end of the work; nothing where unknown
    std::optional<Generation> generation;
    std::string text;
    std::optional<Perplexity> perplexity;
    double perplexity_seconds = 0;
    std::optional<Speed> speed;
};

Report describe(const std::filesystem::path& folder, const LanguageModel& model);

/// Bytes of this process in memory, where the system tells (Linux).
std::optional<std::size_t> resident_bytes();

/// One column for each model.
std::string report_table(const std::vector<Report>& reports);

/// Throws IoError.
void write_report(const std::vector<Report>& reports, const lowrank::cpu::Context& context,
                  const std::filesystem::path& path);

}  // namespace engine
