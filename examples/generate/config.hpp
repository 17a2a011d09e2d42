// generate - what config.json says of a model: sizes and the options of its architecture.
// SPDX-License-Identifier: MIT
//
// LlamaForCausalLM and StableLmForCausalLM, as the transformers library defines them; field names and defaults are
// its own, of version 4 (rope_theta, rope_scaling) and 5 (rope_parameters). A value that this engine cannot run is
// an error; a field that it does not know is listed in `unknown`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace engine {

enum class Architecture : std::uint8_t { llama, stablelm };

/// How Llama 3.1 stretches the wavelengths of its rotary embedding.
struct Llama3Scaling {
    double factor = 1;
    double low_frequency_factor = 1;
    double high_frequency_factor = 1;
    double original_context = 1;
};

struct RopeConfig {
    double theta = 10000;
    std::int64_t dimensions = 0;  ///< of each head that are rotated, the first ones; even
    std::optional<Llama3Scaling> llama3;
};

struct ModelConfig {
    Architecture architecture = Architecture::llama;
    std::int64_t vocabulary = 0;
    std::int64_t hidden = 0;
    std::int64_t intermediate = 0;
    std::int64_t layers = 0;
    std::int64_t heads = 0;
    std::int64_t kv_heads = 0;
    std::int64_t head_size = 0;
    std::int64_t context = 0;  ///< tokens that the model was made for
    float norm_epsilon = 0;
    RopeConfig rope;
    bool tied_head = false;  ///< the head is the embedding's table
    bool qkv_bias = false;
    bool output_bias = false;  ///< of the attention's output projection
    bool mlp_bias = false;
    bool head_norms = false;         ///< a norm for each head of q and k
    bool parallel_residual = false;  ///< attention and MLP read the same normed input
    std::vector<std::int64_t> stop_tokens;
    std::vector<std::string> unknown;

    [[nodiscard]] std::int64_t query_size() const { return heads * head_size; }
    [[nodiscard]] std::int64_t kv_size() const { return kv_heads * head_size; }
};

/// From FOLDER/config.json. Throws IoError if it cannot be read, FormatError that names the field if it is malformed
/// or asks for what this engine cannot do.
ModelConfig read_config(const std::filesystem::path& folder);

}  // namespace engine
