// generate - reads config.json.
// SPDX-License-Identifier: MIT
#include "config.hpp"

#include "json_fields.hpp"

#include <algorithm>
#include <iterator>

namespace engine {

namespace {

// Fields that do not change what a trained model computes: how it was trained, stored, or is to be used.
constexpr const char* kInert[] = {
    "_name_or_path",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "hidden_dropout",
    "initializer_range",
    "is_llama_config",
    "pad_token_id",
    "torch_dtype",
    "transformers.js_config",
    "use_cache",
    "model_type",
    "transformers_version",
    "_attn_implementation_autoset",
};

Architecture architecture_of(Fields& fields) {
    const Json& names = fields.array("architectures");
    if (names.size() == 1 && names[0] == "LlamaForCausalLM") return Architecture::llama;
    if (names.size() == 1 && names[0] == "StableLmForCausalLM") return Architecture::stablelm;
    fields.unsupported("architectures", "there are LlamaForCausalLM and StableLmForCausalLM");
}

Llama3Scaling llama3_scaling(Fields& fields, std::int64_t context) {
    Llama3Scaling scaling;
    scaling.factor = fields.positive("factor");
    scaling.low_frequency_factor = fields.positive("low_freq_factor");
    scaling.high_frequency_factor = fields.positive("high_freq_factor");
    scaling.original_context = static_cast<double>(fields.whole_or("original_max_position_embeddings", context));
    if (!(scaling.low_frequency_factor < scaling.high_frequency_factor)) {
        throw lowrank::FormatError(fields.subject("low_freq_factor") + ": must be below high_freq_factor");
    }
    return scaling;
}

/// The rotary embedding's own object, rope_scaling (version 4) or rope_parameters (5).
void read_scaling(Fields& fields, const std::string& key, ModelConfig& config, double& rotated_share) {
    Fields scaling = fields.object(key);
    config.rope.theta = scaling.positive_or("rope_theta", config.rope.theta);
    rotated_share = scaling.positive_or("partial_rotary_factor", rotated_share);
    const std::string old_key = scaling.find("rope_type") == nullptr ? "type" : "rope_type";
    const std::string type = scaling.text_or(old_key, "default");
    if (type == "llama3") {
        config.rope.llama3 = llama3_scaling(scaling, config.context);
    } else if (type != "default") {
        scaling.unsupported(old_key, "there are default and llama3");
    }
    for (const std::string& unknown : scaling.unread()) config.unknown.push_back(key + "." + unknown);
}

void read_rope(Fields& fields, ModelConfig& config) {
    const bool stablelm = config.architecture == Architecture::stablelm;
    config.rope.theta = fields.positive_or("rope_theta", 10000);
    double rotated_share = stablelm ? fields.positive_or("partial_rotary_factor", 0.25) : 1;
    if (fields.find("rope_scaling") != nullptr) read_scaling(fields, "rope_scaling", config, rotated_share);
    if (fields.find("rope_parameters") != nullptr) read_scaling(fields, "rope_parameters", config, rotated_share);
    if (fields.flag_or("rope_interleaved", false)) fields.unsupported("rope_interleaved", "only false is");
    config.rope.dimensions = static_cast<std::int64_t>(static_cast<double>(config.head_size) * rotated_share);
    if (config.rope.dimensions < 2 || config.rope.dimensions > config.head_size || config.rope.dimensions % 2 != 0 ||
        (!stablelm && config.rope.dimensions != config.head_size)) {
        throw lowrank::FormatError(fields.subject("") + ": a rotary embedding of " +
                                   std::to_string(config.rope.dimensions) + " dimensions does not fit heads of " +
                                   std::to_string(config.head_size));
    }
}

void read_sizes(Fields& fields, ModelConfig& config) {
    config.vocabulary = fields.whole("vocab_size");
    config.hidden = fields.whole("hidden_size");
    config.intermediate = fields.whole("intermediate_size");
    config.layers = fields.whole("num_hidden_layers");
    config.heads = fields.whole("num_attention_heads");
    config.kv_heads = fields.whole_or("num_key_value_heads", config.heads);
    config.context = fields.whole("max_position_embeddings");
    const bool has_head_size = config.architecture == Architecture::llama && fields.find("head_dim") != nullptr;
    if (!has_head_size && config.hidden % config.heads != 0) {
        throw lowrank::FormatError(fields.subject("hidden_size") + ": " + std::to_string(config.hidden) +
                                   " does not divide into " + std::to_string(config.heads) + " heads");
    }
    config.head_size = has_head_size ? fields.whole("head_dim") : config.hidden / config.heads;
    if (config.heads % config.kv_heads != 0) {
        throw lowrank::FormatError(fields.subject("num_key_value_heads") + ": " + std::to_string(config.kv_heads) +
                                   " does not divide " + std::to_string(config.heads) + " heads");
    }
}

void read_llama(Fields& fields, ModelConfig& config) {
    config.norm_epsilon = static_cast<float>(fields.positive_or("rms_norm_eps", 1e-6));
    config.qkv_bias = config.output_bias = fields.flag_or("attention_bias", false);
    config.mlp_bias = fields.flag_or("mlp_bias", false);
    // Above 1 the reference adds partial products in another order, which only sharded training wanted.
    static_cast<void>(fields.whole_or("pretraining_tp", 1));
}

void read_stablelm(Fields& fields, ModelConfig& config) {
    config.norm_epsilon = static_cast<float>(fields.positive_or("layer_norm_eps", 1e-5));
    config.qkv_bias = fields.flag_or("use_qkv_bias", false);
    config.head_norms = fields.flag_or("qk_layernorm", false);
    config.parallel_residual = fields.flag_or("use_parallel_residual", false);
}

void read_stop_tokens(Fields& fields, ModelConfig& config) {
    const Json* stop = fields.find("eos_token_id");
    if (stop == nullptr) return;
    const Json list = stop->is_array() ? *stop : Json::array({*stop});
    for (const Json& token : list) {
        config.stop_tokens.push_back(fields.whole("eos_token_id", token, 0));
        if (config.stop_tokens.back() < config.vocabulary) continue;
        throw lowrank::FormatError(fields.subject("eos_token_id") + ": token " + token.dump() +
                                   " is outside the vocabulary of " + std::to_string(config.vocabulary));
    }
}

}  // namespace

ModelConfig read_config(const std::filesystem::path& folder) {
    const std::filesystem::path file = folder / "config.json";
    const Json json = read_json(file);
    Fields fields(json, file);
    ModelConfig config;
    config.architecture = architecture_of(fields);
    if (fields.find("quantization_config") != nullptr) {
        fields.unsupported("quantization_config", "weights are stored as F32, F16 or BF16");
    }
    if (fields.text_or("hidden_act", "silu") != "silu") fields.unsupported("hidden_act", "only silu is");
    read_sizes(fields, config);
    read_rope(fields, config);
    if (config.architecture == Architecture::llama) {
        read_llama(fields, config);
    } else {
        read_stablelm(fields, config);
    }
    config.tied_head = fields.flag_or("tie_word_embeddings", false);
    read_stop_tokens(fields, config);
    for (const std::string& key : fields.unread()) {
        if (std::find(std::begin(kInert), std::end(kInert), key) == std::end(kInert)) config.unknown.push_back(key);
    }
    return config;
}

}  // namespace engine
