// The tokenizer against the `tokenizers` library (make-tokenizer-fixtures), and what it refuses.
#include "tokenizer.hpp"
#include "utf8.hpp"

#include "../checkpoint/support.hpp"
#include "../fixtures.hpp"

#include <lowrank/error.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

using namespace engine;
using lowrank_test::mentions;
using lowrank_test::message_of;

namespace {

const std::filesystem::path kTokenizers = test::kFixtures / "tokenizers";

/// The message of the error for a tokenizer that was changed so.
template <class Change>
std::string refused(const std::string& name, Change&& change) {
    nlohmann::json json = nlohmann::json::parse(std::ifstream(kTokenizers / name / "tokenizer.json"));
    change(json);
    const lowrank_test::TemporaryFolder folder;
    lowrank_test::write_file(folder / "tokenizer.json", json.dump());
    return message_of<lowrank::FormatError>([&] { Tokenizer tokenizer(folder.path()); });
}

}  // namespace

TEST_CASE("ids and texts are those of the tokenizers library") {
    const std::string name = GENERATE("smollm", "gpt-neox", "llama3", "prefix-space");
    CAPTURE(name);
    Tokenizer tokenizer(kTokenizers / name);
    const auto expected = nlohmann::json::parse(std::ifstream(kTokenizers / name / "expected.json"));
    REQUIRE(expected.size() > 15);
    for (const auto& entry : expected) {
        const auto text = entry[0].get<std::string>();
        const auto ids = entry[1].get<std::vector<Token>>();
        CAPTURE(text);
        CHECK(tokenizer.encode(text, Frame::added) == ids);
        CHECK(tokenizer.encode(text, Frame::added) == ids);  // now from the cache
        CHECK(tokenizer.decode(ids) == entry[2].get<std::string>());
    }
}

TEST_CASE("special tokens are found, and shown only where wanted") {
    Tokenizer tokenizer(kTokenizers / "smollm");
    const std::vector<Token> ids = tokenizer.encode("<|im_start|><|im_end|>", Frame::none);
    CHECK(ids == std::vector<Token>{1, 2});
    CHECK(tokenizer.decode(ids).empty());
    CHECK(tokenizer.decode(ids, true) == "<|im_start|><|im_end|>");
    CHECK(tokenizer.find("<|im_end|>") == Token{2});
    CHECK_FALSE(tokenizer.find("<|none|>"));
    CHECK(tokenizer.bytes(100'000).empty());
    CHECK(tokenizer.bytes(-1).empty());
}

TEST_CASE("the frame is added only where wanted") {
    Tokenizer tokenizer(kTokenizers / "llama3");
    CHECK(tokenizer.encode("", Frame::added) == std::vector<Token>{0});
    CHECK(tokenizer.encode("", Frame::none).empty());
}

TEST_CASE("text that is not UTF-8 is refused with the place") {
    Tokenizer tokenizer(kTokenizers / "smollm");
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"ab\xFFz", "byte 3"}, {"\xC3", "byte 1"}, {"x\xED\xA0\x80", "byte 2"}, {"\xF4\x90\x80\x80", "byte 1"}};
    for (const auto& entry : cases) {
        const auto encode = [&] { static_cast<void>(tokenizer.encode(entry.first, Frame::none)); };
        CHECK(mentions(message_of<lowrank::ValueError>(encode), {"UTF-8", entry.second}));
    }
}

TEST_CASE("a malformed or unsupported tokenizer is one clear line") {
    CHECK(mentions(refused("smollm", [](auto& json) { json.erase("model"); }), {"tokenizer.json", "model", "missing"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["vocab"] = 3; }), {"model.vocab", "object"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["vocab"]["a"] = "x"; }),
                   {"model.vocab.a", "'\"x\"'"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["vocab"]["a"] = -1; }), {"model.vocab.a", "-1"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["vocab"]["a"] = 3'000'000'000; }),
                   {"model.vocab.a", "3000000000"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["merges"].push_back("a zebra"); }),
                   {"model.merges", "'a' and 'zebra'", "'zebra' is not in the vocabulary"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["merges"].push_back("ab"); }),
                   {"model.merges", "'ab'", "not a pair"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["merges"].push_back(1); }), {"model.merges", "1"}));
    CHECK(
        mentions(refused("smollm", [](auto& json) { json["model"]["type"] = "Unigram"; }), {"model.type", "Unigram"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["dropout"] = 0.1; }), {"model.dropout", "0.1"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["model"]["byte_fallback"] = true; }), {"byte_fallback"}));
    CHECK(
        mentions(refused("smollm", [](auto& json) { json["model"]["unk_token"] = "<unk>"; }), {"unk_token", "<unk>"}));
    CHECK(mentions(refused("smollm",
                           [](auto& json) {
                               json["normalizer"] = {{"type", "Lowercase"}};
                           }),
                   {"normalizer.type", "Lowercase"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["pre_tokenizer"]["pretokenizers"][0]["type"] = "Bert"; }),
                   {"pre_tokenizer.pretokenizers[0].type", "Bert"}));
    CHECK(mentions(
        refused("llama3", [](auto& json) { json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a"; }),
        {"pattern.Regex", "(a", "parenthesis"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["decoder"]["type"] = "WordPiece"; }), {"decoder.type"}));
    CHECK(mentions(refused("smollm",
                           [](auto& json) {
                               json["post_processor"] = {{"type", "Bert"}};
                           }),
                   {"post_processor.type", "Bert"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["added_tokens"][0].erase("id"); }),
                   {"added_tokens[0].id", "missing"}));
    CHECK(mentions(refused("smollm", [](auto& json) { json["added_tokens"][0]["single_word"] = true; }),
                   {"added_tokens[0].single_word"}));
}

TEST_CASE("text in pieces is that of the whole, and malformed bytes become U+FFFD as Unicode asks") {
    const std::string replacement = "\xEF\xBF\xBD";
    // Each longest beginning of a character counts once: Unicode 15, tables 3-8 to 3-11.
    const std::vector<std::pair<std::string, std::string>> texts = {
        {"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
         "A",
         "8A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
         "A",
         "8A"},
        {"\xF4\x91\x92\x93\xFF"
         "A\x80\xBF"
         "B",
         "5A2B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
         "A",
         "4A"},
        {"x\xE2\x82", "x1"}};
    for (const auto& [bytes, shown] : texts) {
        std::string wanted;
        for (const char c : shown) {
            if (c >= '1' && c <= '9') {
                for (int i = 0; i < c - '0'; ++i) wanted += replacement;
            } else {
                wanted += c;
            }
        }
        for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
            CAPTURE(bytes, piece);
            Utf8Stream stream;
            std::string text;
            for (std::size_t at = 0; at < bytes.size(); at += piece) text += stream.add(bytes.substr(at, piece));
            CHECK(text + stream.finish() == wanted);
        }
    }
}
