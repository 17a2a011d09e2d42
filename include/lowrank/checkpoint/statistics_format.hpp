// lowrank - statistics files: the calibration of a whole model in one safetensors file, its format.
// SPDX-License-Identifier: MIT
//
// For a layer MODULE of a model (its weight is MODULE.weight, d_out x d_in) whose input is stored under the name
// INPUT (that of the first layer that reads it, so that q, k and v share one), the file holds
//     INPUT.input_gram      F32 or F64, [d_in (d_in + 1) / 2]    sum x^T x over tokens: the upper triangle, row by row
//     INPUT.input_sum       the same type, [d_in]                sum x; may be absent
//     MODULE.gradient_gram  the same type, [d_out (d_out + 1) / 2]  sum g^T g; absent if there are no gradients
// with x the layer's input of one token and g the gradient, with respect to the layer's output at one token, of the
// cross-entropy (in nats, summed over tokens) of the next tokens. And in the metadata, all values strings:
//     "lowrank.statistics": "1"                  the version of this format
//     "lowrank.text": "85944171f73967e8"         FNV-1a (64 bits, hexadecimal) of the calibration text's bytes; of
//                                                merged files, all of them, separated by commas
//     "lowrank.layers": {"model.layers.0.self_attn.k_proj":
//                           {"input": "model.layers.0.self_attn.q_proj", "tokens": 32768, "gradient_tokens": 16384}}
//                                                JSON text: how many tokens each sum is over (0: there are none)
// Sums, not means: files of several workers are merged by adding. F32 loses nothing that matters: rounding moves entry
// (i, j) by at most 2^-24 sqrt(h_ii h_jj), far below the noise of any sample of tokens.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lowrank {

/// FNV-1a of 64 bits in hexadecimal (Fowler, Noll, Vo): tells texts apart, and protects against nothing.
inline std::string text_hash(std::string_view text) {
    std::uint64_t value = 0xcbf29ce484222325U;
    for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    char digits[17];
    std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(value));
    return digits;
}

/// Where a layer's sums are and how many tokens they are over.
struct LayerStatistics {
    std::string input;                 ///< the name that its input's sums are stored under
    std::int64_t tokens = 0;           ///< of the input
    std::int64_t gradient_tokens = 0;  ///< 0: no gradients
};

namespace detail {

inline constexpr const char* kStatisticsKey = "lowrank.statistics";
inline constexpr const char* kStatisticsVersion = "1";
inline constexpr const char* kTextKey = "lowrank.text";
inline constexpr const char* kStatisticsLayersKey = "lowrank.layers";
inline constexpr const char* kInputGram = ".input_gram";
inline constexpr const char* kInputSum = ".input_sum";
inline constexpr const char* kGradientGram = ".gradient_gram";

inline std::map<std::string, std::string> statistics_metadata(const std::map<std::string, LayerStatistics>& layers,
                                                              const std::vector<std::string>& texts) {
    nlohmann::ordered_json notes = nlohmann::ordered_json::object();
    for (const auto& [module, layer] : layers) {
        notes[module] = {{"input", layer.input}, {"tokens", layer.tokens}, {"gradient_tokens", layer.gradient_tokens}};
    }
    std::string joined;
    for (const std::string& text : texts) {
        if (!joined.empty()) joined += ',';
        joined += text;
    }
    return {{kStatisticsKey, kStatisticsVersion}, {kTextKey, joined}, {kStatisticsLayersKey, notes.dump()}};
}

}  // namespace detail

}  // namespace lowrank
