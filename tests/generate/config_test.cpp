// What config.json may say, and what is refused.
#include "config.hpp"
#include "language_model.hpp"

#include "../checkpoint/support.hpp"
#include "generate/support.hpp"

#include <lowrank/error.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>

using namespace engine;
using lowrank_test::mentions;
using lowrank_test::message_of;

namespace {

nlohmann::json config_of(const std::string& model) {
    return nlohmann::json::parse(std::ifstream(test::model_folder(model) / "config.json"));
}

template <class Change>
ModelConfig changed(const std::string& model, Change&& change) {
    nlohmann::json json = config_of(model);
    change(json);
    const lowrank_test::TemporaryFolder folder;
    lowrank_test::write_file(folder / "config.json", json.dump());
    return read_config(folder.path());
}

template <class Change>
std::string refusal(const std::string& model, Change&& change) {
    return message_of<lowrank::FormatError>([&] { changed(model, change); });
}

/// The message for the fixture's weights with a config that was changed so.
template <class Change>
std::string mismatch(const std::string& model, Change&& change) {
    nlohmann::json json = config_of(model);
    change(json);
    const lowrank_test::TemporaryFolder folder;
    std::filesystem::copy(test::model_folder(model), folder.path(), std::filesystem::copy_options::recursive);
    lowrank_test::write_file(folder / "config.json", json.dump());
    return message_of<lowrank::Error>([&] { static_cast<void>(load_model(folder.path())); });
}

}  // namespace

TEST_CASE("the two ways to write a rotary embedding mean the same") {
    const ModelConfig old_names = read_config(test::model_folder("llama-biased"));
    REQUIRE(old_names.rope.llama3);
    CHECK(old_names.rope.llama3->factor == 8);
    CHECK(old_names.rope.llama3->original_context == 48);
    const ModelConfig new_names = changed("llama-biased", [](auto& json) {
        json["rope_parameters"] = json["rope_scaling"];
        json["rope_parameters"]["rope_theta"] = 500000;
        json.erase("rope_scaling");
        json.erase("rope_theta");
    });
    CHECK(new_names.rope.theta == 500000);
    REQUIRE(new_names.rope.llama3);
    CHECK(new_names.rope.llama3->high_frequency_factor == old_names.rope.llama3->high_frequency_factor);
    CHECK(read_config(test::model_folder("stablelm")).rope.dimensions == 2);
    CHECK(read_config(test::model_folder("stablelm-parallel")).rope.dimensions == 4);
}

TEST_CASE("defaults are those of transformers") {
    const ModelConfig llama = changed("llama", [](auto& json) {
        for (const char* key : {"num_key_value_heads", "head_dim", "rms_norm_eps", "rope_parameters", "eos_token_id",
                                "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act"}) {
            json.erase(key);
        }
    });
    CHECK(llama.kv_heads == 4);
    CHECK(llama.head_size == 6);
    CHECK(llama.norm_epsilon == 1e-6F);
    CHECK(llama.rope.theta == 10000);
    CHECK(llama.stop_tokens.empty());
    CHECK_FALSE(llama.tied_head);
    const ModelConfig stablelm = changed("stablelm", [](auto& json) {
        json.erase("partial_rotary_factor");
        json["num_attention_heads"] = json["num_key_value_heads"] = 3;
    });
    CHECK(stablelm.head_size == 8);
    CHECK(stablelm.rope.dimensions == 2);
}

TEST_CASE("several stop tokens, and fields that are not known") {
    const ModelConfig config = changed("llama", [](auto& json) {
        json["eos_token_id"] = {2, 7};
        json["attention_multiplier"] = 0.5;
        json["pad_token_id"] = nullptr;
    });
    CHECK(config.stop_tokens == std::vector<std::int64_t>{2, 7});
    CHECK(config.unknown == std::vector<std::string>{"attention_multiplier"});
    CHECK(read_config(test::model_folder("llama")).unknown.empty());
    CHECK(read_config(test::model_folder("stablelm-parallel")).unknown.empty());
}

TEST_CASE("a malformed or unsupported config is one clear line") {
    const auto set = [](const char* key, const nlohmann::json& value) {
        return [=](nlohmann::json& json) { json[key] = value; };
    };
    CHECK(mentions(refusal("llama", [](auto& json) { json.erase("hidden_size"); }),
                   {"config.json", "hidden_size", "missing"}));
    CHECK(mentions(refusal("llama", set("hidden_size", "24")), {"hidden_size", "whole number", "'\"24\"'"}));
    CHECK(mentions(refusal("llama", set("hidden_size", 0)), {"hidden_size", "at least 1", "'0'"}));
    CHECK(mentions(refusal("llama", set("hidden_size", 24.5)), {"hidden_size", "24.5"}));
    CHECK(mentions(refusal("llama", set("num_hidden_layers", 1e18)), {"num_hidden_layers"}));
    CHECK(mentions(refusal("llama", set("num_key_value_heads", 3)), {"num_key_value_heads", "3 does not divide 4"}));
    CHECK(mentions(refusal("stablelm", set("num_attention_heads", 5)), {"hidden_size", "5 heads"}));
    CHECK(mentions(refusal("llama", set("architectures", {"MistralForCausalLM"})), {"architectures", "Mistral"}));
    CHECK(mentions(refusal("llama", set("architectures", "LlamaForCausalLM")), {"architectures", "list"}));
    CHECK(mentions(refusal("llama", set("hidden_act", "gelu")), {"hidden_act", "gelu", "only silu"}));
    CHECK(mentions(refusal("llama", set("rms_norm_eps", -1)), {"rms_norm_eps", "above 0"}));
    CHECK(mentions(refusal("llama", set("attention_bias", 1)), {"attention_bias", "true or false"}));
    CHECK(mentions(refusal("llama", set("rope_scaling", {{"type", "yarn"}, {"factor", 2}})),
                   {"rope_scaling.type", "yarn"}));
    CHECK(mentions(refusal("llama-biased", [](auto& json) { json["rope_scaling"].erase("factor"); }),
                   {"rope_scaling.factor", "missing"}));
    CHECK(mentions(refusal("llama", set("rope_interleaved", true)), {"rope_interleaved"}));
    CHECK(mentions(refusal("stablelm", set("partial_rotary_factor", 0.5)), {"3 dimensions"}));
    CHECK(mentions(refusal("llama", set("quantization_config", {{"bits", 4}})), {"quantization_config"}));
    CHECK(mentions(refusal("llama", set("eos_token_id", 40)), {"eos_token_id", "40"}));
    CHECK(mentions(refusal("llama", set("eos_token_id", "x")), {"eos_token_id"}));
}

TEST_CASE("weights that do not fit the config are named") {
    const auto set = [](const char* key, const nlohmann::json& value) {
        return [=](nlohmann::json& json) { json[key] = value; };
    };
    CHECK(mentions(mismatch("llama", set("vocab_size", 41)), {"model.embed_tokens.weight", "[40, 24]", "[41, 24]"}));
    CHECK(mentions(mismatch("llama", set("intermediate_size", 40)), {"mlp.gate_proj.weight", "[36, 24]", "[40, 24]"}));
    CHECK(mentions(mismatch("llama", set("num_hidden_layers", 3)), {"no tensor", "model.layers.2."}));
    CHECK(mentions(mismatch("llama", set("num_hidden_layers", 1)), {"model.layers.1.", "1 layers"}));
    CHECK(mentions(mismatch("llama", set("tie_word_embeddings", false)), {"no tensor", "lm_head.weight"}));
    CHECK(mentions(mismatch("llama", set("attention_bias", true)), {"no tensor", "q_proj.bias"}));
    CHECK(mentions(mismatch("llama-low-rank", set("head_dim", 12)), {"q_proj", "[40, 5]", "[48, 5]"}));
}
