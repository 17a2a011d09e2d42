// lowrank - the reading and writing of JSON that lowrank::compiled has compiled already.
// SPDX-License-Identifier: MIT
//
// Of each unit that reads a checkpoint a third of the time to compile was the JSON parser's.
#pragma once

#include <lowrank/checkpoint/safetensors_header.hpp>
#include <lowrank/checkpoint/strict_json.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <string_view>

/// `KIND` is `extern template` where these are announced, `template` where they are compiled.
#define LOWRANK_JSON(KIND, JSON)                                                                        \
    KIND JSON lowrank::detail::parse_strict_json<JSON>(std::string_view, const std::filesystem::path&); \
    KIND std::string JSON::dump(const int, const char, const bool, const nlohmann::detail::error_handler_t) const;
#define LOWRANK_JSON_HEADER(KIND, HANDLER)                             \
    KIND bool nlohmann::basic_json<>::sax_parse<const char*, HANDLER>( \
        const char*, const char*, HANDLER*, nlohmann::json::input_format_t, const bool, const bool);

#ifdef LOWRANK_COMPILED_JSON
LOWRANK_JSON(extern template, nlohmann::basic_json<>)
LOWRANK_JSON(extern template, nlohmann::basic_json<nlohmann::ordered_map>)
LOWRANK_JSON_HEADER(extern template, lowrank::detail::SafetensorsSyntax)
LOWRANK_JSON_HEADER(extern template, lowrank::detail::SafetensorsFields)
#endif
