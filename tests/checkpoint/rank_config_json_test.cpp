// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/rank_config.hpp>

#include "support.hpp"

using namespace lowrank;
using namespace lowrank_test;

namespace {

RankConfig parse_ranks(std::string_view text) {
    return parse_rank_config_json(text, "ranks.json");
}

/// The message that this text is refused with; every one names the file.
template <class E = ValueError>
std::string refusal_of_ranks(std::string_view text) {
    const std::string message = message_of<E>([&] { parse_ranks(text); });
    CHECK(message.starts_with("'ranks.json': "));
    return message;
}

/// The same for the entry of q_proj, which the message names.
std::string entry_refusal(const std::string& value) {
    const std::string message = refusal_of_ranks(R"({"q_proj": )" + value + "}");
    CHECK(mentions(message, {"entry 'q_proj'"}));
    return message;
}

}  // namespace

TEST_CASE("ranks and rules of a JSON config", "[checkpoint][rank_config]") {
    const RankConfig config = parse_ranks(R"({
        "q_proj": 384,
        "k_proj": {"rank": 12},
        "mlp.gate_proj": {"share": 0.5, "multiple": 16},
        "layers.0.self_attn.q_proj": {"max": 512, "error": 0.1, "min": 64},
        "down_proj": {"energy": 1},
        "layers.*.up_proj": {"error": 0}
    })");
    REQUIRE(config.entries().size() == 6);
    CHECK(config.entries()[0].pattern == "q_proj");  // their order is kept
    CHECK(config.find("model.layers.1.self_attn.q_proj")->rule == fixed_rank(384));
    CHECK(config.find("k_proj")->rule == fixed_rank(12));
    CHECK(config.find("model.layers.1.mlp.gate_proj")->rule == parameter_share(0.5).aligned(16));
    CHECK(config.find("gate_proj") == nullptr);
    CHECK(config.find("model.layers.0.self_attn.q_proj")->rule == relative_error(0.1).clamped(64, 512));
    CHECK(config.find("down_proj")->rule == energy_kept(1));
    CHECK(config.find("layers.3.up_proj")->rule == relative_error(0));
}

TEST_CASE("a config that is not JSON, or not an object", "[checkpoint][rank_config][malformed]") {
    for (const char* text :
         {"", "{", "q_proj=4", R"({"q_proj": 4,})", R"({"q_proj": 04})", R"({"q_proj": NaN})", "{\"\xff\": 4}"}) {
        INFO(text);
        CHECK(mentions(refusal_of_ranks<FormatError>(text), {"not valid JSON at byte"}));
    }
    for (const char* text : {"null", "384", "[]", R"("q_proj=384")", R"([{"q_proj": 384}])"}) {
        INFO(text);
        CHECK(mentions(refusal_of_ranks<FormatError>(text), {"not an object"}));
    }
    CHECK(mentions(refusal_of_ranks<FormatError>(R"({"q_proj": )" + std::string(1000, '[')), {"limit", "64 levels"}));
    CHECK(mentions(refusal_of_ranks("{}"), {"no layer is named"}));
}

TEST_CASE("keys that come twice", "[checkpoint][rank_config][malformed]") {
    CHECK(mentions(refusal_of_ranks<FormatError>(R"({"q_proj": 1, "q_proj": 2})"), {"duplicate", "'q_proj'"}));
    CHECK(mentions(refusal_of_ranks<FormatError>(R"({"q_proj": {"rank": 1, "rank": 2}})"), {"duplicate", "'rank'"}));
}

TEST_CASE("ranks that are none", "[checkpoint][rank_config][malformed]") {
    for (const char* value : {"0", "-1", "1.5", "384.0", "1e3", "null", "true", R"("384")", "[384]",
                              "9223372036854775808", "18446744073709551616"}) {
        INFO(value);
        CHECK(mentions(entry_refusal(value), {"rank must be a whole number of at least 1"}));
        for (const char* word : {"rank", "multiple", "min", "max"}) {
            const std::string other = std::string(word) == "rank" ? "" : R"("share": 0.5, )";
            const std::string message = entry_refusal("{" + other + "\"" + word + "\": " + value + "}");
            CHECK(mentions(message, {word, "whole number"}));
        }
    }
    CHECK(mentions(entry_refusal("9223372036854775807"), {"beyond any matrix"}));
}

TEST_CASE("rules outside their domain", "[checkpoint][rank_config][malformed]") {
    const auto rule = [](const std::string& word, const std::string& value) {
        return entry_refusal("{\"" + word + "\": " + value + "}");
    };
    for (const char* value : {"0", "-0.5", "1", "1.5", "1e300"}) CHECK(mentions(rule("share", value), {"share"}));
    for (const char* value : {"-0.1", "1", "2"}) CHECK(mentions(rule("error", value), {"error"}));
    for (const char* value : {"0", "-1", "1.01"}) CHECK(mentions(rule("energy", value), {"energy"}));
    for (const char* word : {"share", "error", "energy"}) {
        for (const char* value : {"null", "false", R"("0.5")", "[0.5]", "{}"}) {
            CHECK(mentions(rule(word, value), {word, "must be a number"}));
        }
    }
    CHECK(mentions(refusal_of_ranks<FormatError>(R"({"q_proj": {"share": 1e999}})"), {"number", "too large"}));
}

TEST_CASE("rules that are incomplete or contradict themselves", "[checkpoint][rank_config][malformed]") {
    CHECK(mentions(entry_refusal("{}"), {"one of rank, share, error and energy is needed"}));
    CHECK(mentions(entry_refusal(R"({"multiple": 16})"), {"is needed"}));
    CHECK(mentions(entry_refusal(R"({"rank": 4, "share": 0.5})"), {"only one of"}));
    CHECK(mentions(entry_refusal(R"({"error": 0.1, "energy": 0.5})"), {"only one of"}));
    CHECK(mentions(entry_refusal(R"({"rnak": 4})"), {"unknown word 'rnak'", "rank, share"}));
    CHECK(mentions(entry_refusal(R"({"share": 0.5, "min": 8, "max": 4})"), {"[8, 4]"}));
}

TEST_CASE("patterns that are no layer names", "[checkpoint][rank_config][malformed]") {
    for (const char* pattern : {"", ".", ".q_proj", "q_proj.", "a..b"}) {
        INFO(pattern);
        CHECK(mentions(refusal_of_ranks("{\"" + std::string(pattern) + "\": 4}"), {"is no layer name"}));
    }
}

TEST_CASE("a config from a file", "[checkpoint][rank_config]") {
    const TemporaryFolder folder;
    write_file(folder / "r.json", R"({"q_proj": 4})");
    CHECK(read_rank_config(folder / "r.json").find("q_proj")->rule == fixed_rank(4));
    CHECK(
        mentions(message_of<IoError>([&] { read_rank_config(folder / "gone.json"); }), {"gone.json'", "No such file"}));
    write_file(folder / "empty.json", "");
    CHECK(mentions(message_of<FormatError>([&] { read_rank_config(folder / "empty.json"); }),
                   {"empty.json'", "not valid JSON"}));
}
