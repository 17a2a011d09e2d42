#include <lowrank/rank_config.hpp>

#include "catch.hpp"
#include "common.hpp"

#include <string>
#include <vector>

using namespace lowrank;
using test::message;

TEST_CASE("The reference config parses", "[rank_config]") {
    const RankConfig config = RankConfig::parse("q_proj=384,o_proj=384,gate_proj=512");
    REQUIRE(config.entries().size() == 3);
    CHECK(config.find("model.layers.31.mlp.gate_proj")->rule == fixed_rank(512));
    CHECK(config.find("q_proj") != nullptr);
    CHECK(config.find("model.layers.0.self_attn.k_proj") == nullptr);
    CHECK(config.find("model.layers.0.self_attn.my_q_proj") == nullptr);
}

TEST_CASE("The more specific pattern wins, and equally specific ones are an error", "[rank_config]") {
    RankConfig config = RankConfig::parse("q_proj=1,self_attn.q_proj=2,layers.3.self_attn.q_proj=3");
    config.add("layers.*.mlp.up_proj", fixed_rank(4));
    CHECK(config.find("model.layers.0.self_attn.q_proj")->rule == fixed_rank(2));
    CHECK(config.find("model.layers.3.self_attn.q_proj")->rule == fixed_rank(3));
    CHECK(config.find("model.layers.13.self_attn.q_proj")->rule == fixed_rank(2));
    CHECK(config.find("other.q_proj")->rule == fixed_rank(1));
    CHECK(config.find("model.layers.7.mlp.up_proj")->rule == fixed_rank(4));
    config.add("layers.7.*.up_proj", fixed_rank(5));
    CHECK(message([&] { static_cast<void>(config.find("model.layers.7.mlp.up_proj")); }) ==
          "the layer names 'layers.*.mlp.up_proj' and 'layers.7.*.up_proj' both match model.layers.7.mlp.up_proj: make "
          "one of them longer");
}

TEST_CASE("Each mistake in the text has its own message", "[rank_config]") {
    const auto parse = [](const char* text) { return message([&] { RankConfig::parse(text); }); };
    CHECK(parse("") == "'' is not of the form NAME=RANK");
    CHECK(parse("q_proj") == "'q_proj' is not of the form NAME=RANK");
    CHECK(parse("q_proj=1,") == "'' is not of the form NAME=RANK");
    CHECK(parse("q_proj=") == "the rank of 'q_proj', '', is not a whole number");
    CHECK(parse("q_proj=12x") == "the rank of 'q_proj', '12x', is not a whole number");
    CHECK(parse("q_proj=1.5") == "the rank of 'q_proj', '1.5', is not a whole number");
    CHECK(parse("q_proj=0") == "the rank of 'q_proj' must be at least 1, not 0");
    CHECK(parse("q_proj=-4") == "the rank of 'q_proj' must be at least 1, not -4");
    CHECK(parse("q_proj=99999999999999999999") == "the rank of 'q_proj', 99999999999999999999, is beyond any matrix");
    CHECK(parse("q_proj=1,q_proj=2") == "the layer name 'q_proj' is configured twice");
    CHECK(parse("=5").find("is no layer name") != std::string::npos);
    CHECK(parse("a..b=5").find("is no layer name") != std::string::npos);
}

TEST_CASE("A name that matches nothing is answered with the nearest ones", "[rank_config]") {
    const std::vector<std::string> modules{"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj",
                                           "model.layers.0.mlp.gate_proj", "lm_head"};
    CHECK_NOTHROW(RankConfig::parse("q_proj=1,lm_head=2").require_all_matched(modules));
    CHECK(message([&] { RankConfig::parse("q_prj=1").require_all_matched(modules); }) ==
          "no layer matches 'q_prj'; the nearest names are q_proj, k_proj, gate_proj, lm_head");
    CHECK(message([&] { RankConfig::parse("attn.q_proj=1").require_all_matched(modules); }).find("self_attn.q_proj") !=
          std::string::npos);
}
