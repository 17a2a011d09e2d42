// lowrank - the reading and writing of JSON, compiled once for lowrank::compiled.
// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/compiled/json.hpp>

LOWRANK_JSON(template, nlohmann::json)
LOWRANK_JSON(template, nlohmann::ordered_json)
LOWRANK_JSON_HEADER(template, lowrank::detail::SafetensorsSyntax)
LOWRANK_JSON_HEADER(template, lowrank::detail::SafetensorsFields)
