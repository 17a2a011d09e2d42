// lowrank - the reading and writing of JSON, compiled once for lowrank::compiled.
// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/compiled/json.hpp>

LOWRANK_JSON(template, nlohmann::basic_json<>)
LOWRANK_JSON(template, nlohmann::basic_json<nlohmann::ordered_map>)
LOWRANK_JSON_HEADER(template, lowrank::detail::SafetensorsSyntax)
LOWRANK_JSON_HEADER(template, lowrank::detail::SafetensorsFields)
