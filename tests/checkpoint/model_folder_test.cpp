// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/model_folder.hpp>

#include "support.hpp"

namespace fs = std::filesystem;
using namespace lowrank;
using namespace lowrank_test;

namespace {

/// A folder with the shards one.safetensors (a) and two.safetensors (b) and this index.
class Sharded {
public:
    explicit Sharded(std::string_view index) {
        write_vectors(folder_ / "one.safetensors", {{"a", {1, 2}}});
        write_vectors(folder_ / "two.safetensors", {{"b", {3}}});
        write_file(folder_ / ModelFolder::kIndexFile, index);
    }

    [[nodiscard]] fs::path operator/(std::string_view name) const { return folder_ / name; }
    ModelFolder open() const { return ModelFolder(folder_.path()); }

private:
    TemporaryFolder folder_;
};

/// The message that this index is refused with; every one names a file of the model.
template <class E = FormatError>
std::string refusal_of_index(std::string_view index) {
    const Sharded model(index);
    const std::string message = message_of<E>([&] { model.open(); });
    CHECK(message.find("safetensors") != std::string::npos);
    return message;
}

std::string with_map(const std::string& map) {
    return R"({"metadata": {"total_size": 12}, "weight_map": )" + map + "}";
}

const std::string kGood = with_map(R"({"a": "one.safetensors", "b": "two.safetensors"})");

}  // namespace

TEST_CASE("a sharded model", "[checkpoint][index]") {
    const Sharded sharded(kGood);
    const ModelFolder model = sharded.open();
    REQUIRE(model.index());
    CHECK(model.index()->metadata.at("total_size") == 12);
    CHECK(model.shards().size() == 2);
    CHECK(model.tensor_count() == 2);
    CHECK(model.at("b").shard->path().filename() == "two.safetensors");
    CHECK(text_of(model.at("b").bytes()) == text_of(bytes_of(std::vector<float>{3})));
    CHECK_FALSE(model.find("c"));
    CHECK(mentions(message_of<ValueError>([&] { static_cast<void>(model.at("c")); }), {"'c'"}));
}

TEST_CASE("total_size is advisory, metadata optional, unknown fields are ignored", "[checkpoint][index]") {
    for (const char* rest : {"", R"("metadata": {},)", R"("metadata": {"total_size": -1},)",
                             R"("metadata": {"total_size": "many", "x": [1, {}]}, "x": 1,)"}) {
        INFO(rest);
        std::string index = "{";  // appended to, since GCC 12 warns wrongly of a literal + std::string (bug 105651)
        index += rest;
        index += R"("weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})";
        const Sharded model(index);
        CHECK(model.open().tensor_count() == 2);
    }
}

TEST_CASE("an index that is not JSON", "[checkpoint][index][malformed]") {
    CHECK(mentions(refusal_of_index(""), {"not valid JSON"}));
    CHECK(mentions(refusal_of_index("{"), {"not valid JSON"}));
    CHECK(mentions(refusal_of_index(kGood + "x"), {"not valid JSON"}));
    CHECK(mentions(refusal_of_index(kGood + std::string(1, '\0')), {"not valid JSON"}));
    CHECK(mentions(refusal_of_index(with_map("{\"a\": \"\xff\"}")), {"not valid JSON"}));
    CHECK(mentions(refusal_of_index(with_map(R"({"a": 1e999})")), {"number", "too large"}));
    CHECK(mentions(refusal_of_index(std::string(1'000'000, '[')), {"limit", "64 levels"}));
}

TEST_CASE("an index of another form", "[checkpoint][index][malformed]") {
    CHECK(mentions(refusal_of_index("[]"), {"field", "not an object"}));
    CHECK(mentions(refusal_of_index("{}"), {"field", "weight_map"}));
    for (const char* value : {"null", "1", "[]", R"("one.safetensors")"}) {
        INFO(value);
        CHECK(mentions(refusal_of_index(with_map(value)), {"field", "weight_map"}));
        CHECK(mentions(refusal_of_index(R"({"weight_map": {}, "metadata": )" + std::string(value) + "}"),
                       {"field", "metadata"}));
    }
    for (const char* value : {"null", "1", "true", "[]", "{}"}) {
        INFO(value);
        CHECK(mentions(refusal_of_index(with_map(R"({"a": )" + std::string(value) + "}")),
                       {"field", "'a'", "not a string"}));
    }
}

TEST_CASE("duplicate keys of an index", "[checkpoint][index][malformed]") {
    CHECK(mentions(refusal_of_index(with_map(R"({"a": "one.safetensors", "a": "two.safetensors"})")),
                   {"duplicate", "'a'"}));
    CHECK(mentions(refusal_of_index(with_map(R"({"a": "one.safetensors", "\u0061": "one.safetensors"})")),
                   {"duplicate", "'a'"}));
    CHECK(mentions(refusal_of_index(R"({"weight_map": {}, "weight_map": {}})"), {"duplicate", "'weight_map'"}));
}

TEST_CASE("file names that lead out of the folder", "[checkpoint][index][malformed]") {
    for (const char* name : {"../one.safetensors", "/etc/passwd", "sub/one.safetensors", "./one.safetensors", "/", "..",
                             ".", "", "..\\\\one.safetensors", "one.safetensors\\u0000"}) {
        INFO(name);
        CHECK(
            mentions(refusal_of_index(with_map(R"({"a": ")" + std::string(name) + R"("})")), {"tensor 'a'", "field"}));
    }
}

TEST_CASE("an index and shards that disagree", "[checkpoint][index][malformed]") {
    CHECK(mentions(refusal_of_index<IoError>(with_map(R"({"a": "one.safetensors", "b": "gone.safetensors"})")),
                   {"gone.safetensors'", "No such file"}));
    CHECK(mentions(
        refusal_of_index(with_map(R"({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"})")),
        {"tensor 'c'", "listed in 'two.safetensors'", "absent"}));
    CHECK(mentions(refusal_of_index(with_map(R"({"a": "two.safetensors", "b": "two.safetensors"})")),
                   {"tensor 'a'", "absent"}));

    const Sharded unlisted(kGood);
    write_vectors(unlisted / "two.safetensors", {{"b", {3}}, {"c", {4}}});
    CHECK(
        mentions(message_of<FormatError>([&] { unlisted.open(); }), {"two.safetensors'", "tensor 'c'", "not listed"}));

    const Sharded twice(kGood);
    write_vectors(twice / "two.safetensors", {{"a", {3}}, {"b", {4}}});
    CHECK(mentions(message_of<FormatError>([&] { twice.open(); }),
                   {"two.safetensors'", "tensor 'a'", "another file", "'one.safetensors'"}));
}

TEST_CASE("a malformed shard is refused by its own name", "[checkpoint][index][malformed]") {
    const Sharded model(kGood);
    write_file(model / "two.safetensors", "short");
    CHECK(mentions(message_of<FormatError>([&] { model.open(); }), {"two.safetensors'", "header length"}));
}

TEST_CASE("folders that hold no model", "[checkpoint][malformed]") {
    const TemporaryFolder folder;
    const auto refuse = [&](const fs::path& path) { return message_of<IoError>([&] { ModelFolder{path}; }); };
    CHECK(mentions(refuse(folder / "gone"), {"gone'", "No such file"}));
    CHECK(mentions(refuse(folder.path()), {"neither", "model.safetensors"}));
    write_file(folder / "file", "");
    CHECK(mentions(refuse(folder / "file"), {"file'", "not a folder"}));
    fs::create_directories(folder / "sub/model.safetensors");
    CHECK(mentions(refuse(folder / "sub"), {"model.safetensors'", "Is a directory"}));
}

TEST_CASE("a single file and an index leave open which is the model", "[checkpoint][malformed]") {
    const Sharded model(kGood);
    write_vectors(model / ModelFolder::kSingleFile, {{"a", {1}}});
    CHECK(mentions(message_of<FormatError>([&] { model.open(); }), {"both", "index.json"}));
}

TEST_CASE("a written index reads back", "[checkpoint][index]") {
    const TemporaryFolder folder;
    ShardIndex index;
    index.weight_map = {{"a\"\n", "x.safetensors"}, {"b", "y.safetensors"}};
    write_shard_index(index, folder / "i.json");
    ShardIndex back = read_shard_index(folder / "i.json");
    CHECK(back.weight_map == index.weight_map);
    index.metadata["total_size"] = 18446744073709551615U;
    write_shard_index(index, folder / "i.json");
    back = read_shard_index(folder / "i.json");
    CHECK(back.metadata == index.metadata);
    CHECK(folder.names() == std::set<std::string>{"i.json"});
}
