// lowrank - RankConfig from a JSON file.
// SPDX-License-Identifier: MIT
//
// An object of layer-name pattern (see <lowrank/rank_config.hpp>) -> rank, or rule with optional alignment and clamp:
//     {
//       "q_proj": 384,
//       "mlp.gate_proj": {"share": 0.5, "multiple": 16},
//       "layers.0.self_attn.q_proj": {"error": 0.1, "min": 64, "max": 512},
//       "down_proj": {"energy": 0.95}
//     }
// Refused, each with one message that names the file and the entry: a pattern that comes twice, a rank that is 0,
// negative, fractional or no number, a share, error or energy outside its domain, a rule with no or two of
// rank / share / error / energy, an unknown word.
//
//     lowrank::RankConfig config = lowrank::read_rank_config("ranks.json");
#pragma once

#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/strict_json.hpp>
#include <lowrank/error.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/rank_config.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace lowrank {

namespace detail {

/// A whole number >= 1 that fits an int64. `what` begins the message if it is not.
inline std::int64_t whole_number(const nlohmann::ordered_json& value, const std::string& what) {
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 || value.get<std::uint64_t>() > kMost) {
        throw ValueError(what + " must be a whole number of at least 1, not " + name_text(value.dump()));
    }
    return value.get<std::int64_t>();
}

inline double real_number(const nlohmann::ordered_json& value, const std::string& what) {
    if (!value.is_number()) throw ValueError(what + " must be a number, not " + name_text(value.dump()));
    return value.get<double>();
}

inline RankRule rank_rule_from_json(const nlohmann::ordered_json& json) {
    if (!json.is_object()) return fixed_rank(whole_number(json, "the rank"));
    std::optional<RankRule> rule;
    std::int64_t multiple = 1;
    std::int64_t lowest = 1;
    std::int64_t highest = std::numeric_limits<std::int64_t>::max();
    const auto set = [&rule](RankRule made) {
        if (rule) throw ValueError("only one of rank, share, error and energy can be given");
        rule = made;
    };
    for (const auto& [word, value] : json.items()) {
        if (word == "rank") {
            set(fixed_rank(whole_number(value, word)));
        } else if (word == "share") {
            set(parameter_share(real_number(value, word)));
        } else if (word == "error") {
            set(relative_error(real_number(value, word)));
        } else if (word == "energy") {
            set(energy_kept(real_number(value, word)));
        } else if (word == "multiple") {
            multiple = whole_number(value, word);
        } else if (word == "min") {
            lowest = whole_number(value, word);
        } else if (word == "max") {
            highest = whole_number(value, word);
        } else {
            throw ValueError("unknown word " + name_text(word) +
                             "; known are rank, share, error, energy, multiple, min and max");
        }
    }
    if (!rule) throw ValueError("one of rank, share, error and energy is needed");
    return rule->aligned(multiple).clamped(lowest, highest);
}

}  // namespace detail

/// From JSON text; `file` names it in messages. Throws FormatError for what is not JSON or not an object, or has a
/// key twice; ValueError for an entry that is wrong.
inline RankConfig parse_rank_config_json(std::string_view text, const std::filesystem::path& file) {
    const nlohmann::ordered_json json = detail::parse_strict_json(text, file);
    if (!json.is_object()) {
        throw FormatError(detail::path_text(file) + ": not an object of layer name -> rank, such as {\"q_proj\": 384}");
    }
    RankConfig config;
    for (const auto& [pattern, value] : json.items()) {
        try {
            config.add(pattern, detail::rank_rule_from_json(value));
        } catch (const ValueError& error) {
            throw ValueError(detail::path_text(file) + ": entry " + detail::name_text(pattern) + ": " + error.what());
        }
    }
    if (config.empty()) throw ValueError(detail::path_text(file) + ": no layer is named");
    return config;
}

/// From a file. Throws IoError if it cannot be read, else as `parse_rank_config_json`.
inline RankConfig read_rank_config(const std::filesystem::path& path) {
    const MappedFile file(path);
    return parse_rank_config_json(detail::file_text(file), path);
}

}  // namespace lowrank
