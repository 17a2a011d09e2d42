// One test for each way in which a header can be malformed, and for each freedom that the format leaves.
// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/safetensors_header.hpp>

#include "support.hpp"

using lowrank::FormatError;
using lowrank::parse_safetensors_header;
using lowrank::SafetensorsHeader;
using lowrank::SafetensorsLimits;
using namespace lowrank_test;

namespace {

SafetensorsHeader parse_file(const std::string& file) {
    return parse_safetensors_header(std::as_bytes(std::span(file.data(), file.size())), "f.safetensors");
}

SafetensorsHeader parse(std::string_view header, std::size_t data_bytes = 0) {
    return parse_file(raw_safetensors(header, data_bytes));
}

/// The message that this header is refused with; every one names the file.
std::string refusal(std::string_view header, std::size_t data_bytes = 0) {
    const std::string message = message_of<FormatError>([&] { parse(header, data_bytes); });
    CHECK(message.starts_with("'f.safetensors': "));
    return message;
}

/// The entry of tensor w with these fields.
std::string entry(const std::string& fields) {
    return R"({"w": {)" + fields + "}}";
}

std::string f32(const std::string& shape, const std::string& offsets) {
    return entry(R"("dtype": "F32", "shape": )" + shape + R"(, "data_offsets": )" + offsets);
}

}  // namespace

TEST_CASE("header length", "[checkpoint][malformed]") {
    const auto refuse = [](const std::string& file) { return message_of<FormatError>([&] { parse_file(file); }); };
    CHECK(mentions(refuse(""), {"header length", "at least 8 bytes", " 0"}));
    CHECK(mentions(refuse("1234567"), {"header length", " 7"}));
    CHECK(mentions(refuse(std::string(8, '\xff')), {"header length", "18446744073709551615", "100000000"}));
    std::string file = raw_safetensors("{}", 0);
    file[0] = 3;  // one byte more than there is
    CHECK(mentions(refuse(file), {"header length", "8 + 3", "10"}));
    std::uint64_t above = SafetensorsLimits::kHeaderBytes + 1;
    std::memcpy(file.data(), &above, 8);
    CHECK(mentions(refuse(file), {"header length", "100000001", "limit"}));
}

TEST_CASE("header format", "[checkpoint][malformed]") {
    CHECK(mentions(refusal(""), {"header format", "does not start with '{'"}));
    CHECK(mentions(refusal(" {}"), {"header format", "does not start with '{'"}));
    CHECK(mentions(refusal("[]"), {"header format", "does not start with '{'"}));
    CHECK(mentions(refusal("\xef\xbb\xbf{}"), {"header format", "does not start with '{'"}));  // byte order mark
    CHECK(mentions(refusal("{"), {"header format", "JSON"}));
    CHECK(mentions(refusal("{} x"), {"header format", "JSON", "byte 4"}));
    CHECK(mentions(refusal("{}{}"), {"header format", "JSON"}));
    CHECK(mentions(refusal(R"({"a": })"), {"header format", "JSON"}));
    CHECK(mentions(refusal(R"({"a": {},})"), {"header format", "JSON"}));
    CHECK(mentions(refusal("{} // comment"), {"header format", "JSON"}));
    CHECK(mentions(refusal("{\"\xff\": {}}"), {"header format", "UTF-8"}));
    CHECK(mentions(refusal("{\"\xc0\xaf\": {}}"), {"header format", "UTF-8"}));      // overlong
    CHECK(mentions(refusal("{\"\xed\xa0\x80\": {}}"), {"header format", "UTF-8"}));  // a lone surrogate
    CHECK(mentions(refusal(R"({"\ud800": {}})"), {"header format", "JSON"}));
}

TEST_CASE("a zero byte does not end the header", "[checkpoint][malformed]") {
    CHECK(mentions(refusal(std::string_view("{}\0", 3)), {"header format", "byte 3"}));
    CHECK(mentions(refusal(std::string_view("{}\0{\"w\"", 7)), {"header format", "byte 3"}));
    CHECK(mentions(refusal(std::string_view("{\"a\0\": {}}", 10)), {"header format", "byte 4"}));
}

TEST_CASE("duplicates", "[checkpoint][malformed]") {
    const std::string w = R"("w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})";
    CHECK(mentions(refusal("{" + w + ", " + w + "}", 1), {"duplicate", "'w'", "twice"}));
    CHECK(mentions(refusal(R"({"\u0077": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, )" + w + "}", 1),
                   {"duplicate", "'w'"}));
    CHECK(mentions(refusal(R"({"__metadata__": {}, "__metadata__": {}})"), {"duplicate", "'__metadata__'"}));
    CHECK(mentions(refusal(R"({"__metadata__": {"k": "a", "k": "b"}})"), {"__metadata__", "duplicate", "'k'"}));
    CHECK(mentions(refusal(entry(R"("dtype": "U8", "shape": [1], "dtype": "U8", "data_offsets": [0, 1])"), 1),
                   {"tensor 'w'", "duplicate", "'dtype'"}));
}

TEST_CASE("missing fields", "[checkpoint][malformed]") {
    CHECK(mentions(refusal(entry(R"("shape": [1], "data_offsets": [0, 1])"), 1),
                   {"tensor 'w'", "field", "dtype is missing"}));
    CHECK(mentions(refusal(entry(R"("dtype": "U8", "data_offsets": [0, 1])"), 1),
                   {"tensor 'w'", "field", "shape is missing"}));
    CHECK(mentions(refusal(entry(R"("dtype": "U8", "shape": [1])"), 1),
                   {"tensor 'w'", "field", "data_offsets is missing"}));
    CHECK(mentions(refusal(entry("")), {"tensor 'w'", "field", "missing"}));
}

TEST_CASE("fields of a wrong type", "[checkpoint][malformed]") {
    for (const char* value : {"null", "true", "7", "-7", "1.5", R"("text")", "[]", "[1]"}) {
        INFO(value);
        CHECK(mentions(refusal(R"({"w": )" + std::string(value) + "}"), {"tensor 'w'", "field", "object"}));
    }
    for (const char* value : {"null", "true", "7", "-7", "1.5", "[]", "{}"}) {
        INFO(value);
        CHECK(mentions(refusal(entry(R"("dtype": )" + std::string(value))), {"tensor 'w'", "field", "dtype"}));
        CHECK(mentions(refusal(R"({"__metadata__": {"k": )" + std::string(value) + "}}"),
                       {"__metadata__", "field", "'k'", "string"}));
    }
    for (const char* value : {"null", "false", "7", "-7", "1.5", R"("text")", "{}"}) {
        INFO(value);
        CHECK(mentions(refusal(f32(value, "[0, 0]")), {"tensor 'w'", "field", "shape", "array"}));
        CHECK(mentions(refusal(f32("[]", value)), {"tensor 'w'", "field", "data_offsets", "array"}));
    }
    for (const char* value : {"null", "7", R"("text")", "[]"}) {
        INFO(value);
        CHECK(
            mentions(refusal(R"({"__metadata__": )" + std::string(value) + "}"), {"__metadata__", "field", "object"}));
    }
}

TEST_CASE("numbers that are no sizes", "[checkpoint][malformed]") {
    for (const char* value : {"-1", "-0", "1.0", "1.5", "1e2", "18446744073709551616", "1e300", "-1e-300", "null",
                              "true", R"("1")", "[1]", "{}"}) {
        INFO(value);
        const std::string number = value;
        CHECK(mentions(refusal(f32("[" + number + "]", "[0, 4]"), 4), {"tensor 'w'", "field", "shape"}));
        CHECK(mentions(refusal(f32("[1]", "[" + number + ", 4]"), 4), {"tensor 'w'", "field", "data_offsets"}));
        CHECK(mentions(refusal(f32("[1]", "[0, " + number + "]"), 4), {"tensor 'w'", "field", "data_offsets"}));
    }
    CHECK(mentions(refusal(f32("[1e999]", "[0, 4]"), 4), {"field", "number", "too large"}));
}

TEST_CASE("offsets that are not two", "[checkpoint][malformed]") {
    CHECK(mentions(refusal(f32("[]", "[]")), {"tensor 'w'", "field", "data_offsets holds 0 numbers"}));
    CHECK(mentions(refusal(f32("[]", "[0]")), {"tensor 'w'", "field", "data_offsets holds 1 numbers"}));
    CHECK(mentions(refusal(f32("[1]", "[0, 4, 4]"), 4), {"tensor 'w'", "field", "data_offsets holds more than 2"}));
}

TEST_CASE("offsets that do not tile the data", "[checkpoint][malformed]") {
    const auto two = [](const std::string& a, const std::string& b) {
        return R"({"a": {"dtype": "X", "shape": [], "data_offsets": )" + a +
               R"(}, "b": {"dtype": "X", "shape": [], "data_offsets": )" + b + "}}";
    };
    CHECK(mentions(refusal(f32("[1]", "[4, 0]"), 4), {"tensor 'w'", "offsets", "[4, 0)", "ends before it begins"}));
    CHECK(mentions(refusal(two("[0, 4]", "[2, 6]"), 6), {"tensor 'b'", "offsets", "[2, 6)", "overlaps", " 4"}));
    CHECK(mentions(refusal(two("[0, 4]", "[0, 4]"), 4), {"offsets", "overlaps"}));
    CHECK(mentions(refusal(two("[0, 4]", "[2, 2]"), 4), {"tensor 'b'", "offsets", "overlaps"}));  // empty, inside
    CHECK(mentions(refusal(two("[0, 4]", "[5, 9]"), 9), {"tensor 'b'", "offsets", "[5, 9)", "hole", " 4"}));
    CHECK(mentions(refusal(f32("[1]", "[1, 5]"), 5), {"tensor 'w'", "offsets", "[1, 5)", "hole"}));
    CHECK(mentions(refusal(f32("[1]", "[0, 4]"), 5), {"tensor 'w'", "offsets", "ends at byte 4", "holds 5"}));
    CHECK(mentions(refusal(f32("[1]", "[0, 4]"), 3), {"tensor 'w'", "offsets", "ends at byte 4", "holds 3"}));
    CHECK(mentions(refusal("{}", 1), {"offsets", "holds 1"}));
    CHECK(mentions(refusal(f32("[1]", "[18446744073709551612, 18446744073709551615]"), 4), {"offsets"}));
}

TEST_CASE("shapes that overflow", "[checkpoint][malformed]") {
    // Their products modulo 2^64 are small, so that a reader without the check accepts them.
    CHECK(mentions(refusal(f32("[2, 18446744073709551614]", "[0, 4]"), 4),
                   {"tensor 'w'", "overflow", "[2, 18446744073709551614]"}));
    CHECK(mentions(refusal(f32("[4194305, 4194305, 211106198978564]", "[0, 16]"), 16),
                   {"tensor 'w'", "overflow", "[4194305, 4194305, 211106198978564]"}));
    CHECK(mentions(refusal(f32("[4611686018427387905]", "[0, 4]"), 4), {"tensor 'w'", "overflow", "F32"}));
    CHECK(mentions(refusal(f32("[65536, 65536, 1, 1, 1, 1, 65536, 65536]", "[0, 0]")), {"overflow"}));  // 8-D
    CHECK(mentions(refusal(f32("[0, 4294967296, 4294967296]", "[0, 0]")), {"overflow"}));
    CHECK(mentions(refusal(f32("[4294967296, 4294967296, 0]", "[0, 0]")), {"overflow"}));
    CHECK(
        mentions(refusal(entry(R"("dtype": "F8_E4M3", "shape": [2, 18446744073709551614], "data_offsets": [0, 4])"), 4),
                 {"overflow"}));
}

TEST_CASE("shapes whose bytes are not those of the offsets", "[checkpoint][malformed]") {
    CHECK(mentions(refusal(f32("[2, 3]", "[0, 20]"), 20), {"tensor 'w'", "size", "[2, 3]", "'F32'", "24", "20"}));
    CHECK(mentions(refusal(f32("[]", "[0, 8]"), 8), {"tensor 'w'", "size", "[]", " 4 ", " 8"}));
    CHECK(mentions(refusal(f32("[0]", "[0, 4]"), 4), {"tensor 'w'", "size", "[0]", " 0 ", " 4"}));
    CHECK(mentions(refusal(f32("[1, 1, 1, 1, 1, 1, 1, 2]", "[0, 4]"), 4), {"size"}));  // 8-D
}

TEST_CASE("limits", "[checkpoint][malformed]") {
    const std::size_t depth = SafetensorsLimits::kDepth;
    const auto nested = [](std::size_t levels) {
        return R"({"w": {"dtype": "U8", "shape": [], "data_offsets": [0, 1], "x": )" + std::string(levels, '[') +
               std::string(levels, ']') + "}}";
    };
    CHECK(parse(nested(depth - 2), 1).tensors.size() == 1);
    CHECK(mentions(refusal(nested(depth - 1), 1), {"limit", "64 levels"}));
    CHECK(mentions(refusal("{\"w\": " + std::string(10'000'000, '[')), {"limit", "64 levels"}));

    std::string ones = "[1";
    for (std::size_t i = 1; i < SafetensorsLimits::kDimensions; ++i) ones += ",1";
    CHECK(parse(f32(ones + "]", "[0, 4]"), 4).tensors.size() == 1);
    CHECK(mentions(refusal(f32(ones + ",1]", "[0, 4]"), 4), {"tensor 'w'", "limit", "64 dimensions"}));

    std::string many = "{";
    for (std::size_t i = 0; i <= SafetensorsLimits::kTensors; ++i) {
        many += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"X","shape":[],"data_offsets":[0,0]})";
    }
    CHECK(mentions(refusal(many + "}"), {"limit", "1000000 tensors"}));
}

TEST_CASE("what the format allows is accepted", "[checkpoint]") {
    SECTION("no tensors") {
        CHECK(parse("{}").tensors.empty());
        CHECK(parse("{}      ").data_begin == 16);
        CHECK(parse("{\n\t}\r\n").tensors.empty());
    }
    SECTION("metadata") {
        const SafetensorsHeader header = parse(R"({"__metadata__": {"format": "pt", "": "\n\u00e9"}})");
        CHECK(header.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"", "\n\xc3\xa9"}});
    }
    SECTION("any order of keys and of tensors, unknown fields") {
        const SafetensorsHeader header = parse(
            R"({"b": {"data_offsets": [4, 6], "x": {"dtype": [1, {"shape": -1.5}]}, "shape": [1, 1], "dtype": "BF16", "y": null},)"
            R"( "__metadata__": {}, "a": {"shape": [], "data_offsets": [0, 4], "dtype": "F32"}})",
            6);
        REQUIRE(header.tensors.size() == 2);
        CHECK(header.tensors[0].name == "a");
        CHECK(header.tensors[0].shape.empty());
        CHECK(header.tensors[0].elements() == 1);
        CHECK(header.tensors[1].name == "b");
        CHECK(header.tensors[1].dtype == "BF16");
        CHECK(header.tensors[1].shape == std::vector<std::uint64_t>{1, 1});
        CHECK(header.tensors[1].begin == 4);
        CHECK(header.tensors[1].end == 6);
    }
    SECTION("sizes of 0") {
        const SafetensorsHeader header = parse(
            R"({"e": {"dtype": "F32", "shape": [0, 5], "data_offsets": [1, 1]}, "w": {"dtype": "U8", "shape": [1],)"
            R"( "data_offsets": [0, 1]}, "f": {"dtype": "F64", "shape": [1000000000000, 0], "data_offsets": [0, 0]}})",
            1);
        REQUIRE(header.tensors.size() == 3);
        CHECK(header.tensors[0].name == "f");
        CHECK(header.tensors[2].elements() == 0);
    }
    SECTION("types that this library does not know") {
        const SafetensorsHeader header =
            parse(entry(R"("dtype": "F4_E2M1", "shape": [3, 3], "data_offsets": [0, 5])"), 5);
        CHECK(header.tensors.at(0).bytes() == 5);
    }
    SECTION("names that need escapes") {
        const SafetensorsHeader header =
            parse(R"({"a\"\\\/\u0001\ud83d\ude00": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]},)"
                  R"( "": {"dtype": "U8", "shape": [], "data_offsets": [1, 2]}})",
                  2);
        CHECK(header.tensors.at(0).name == "a\"\\/\x01\xf0\x9f\x98\x80");
        CHECK(header.tensors.at(1).name.empty());
    }
}

TEST_CASE("a hostile name does not reach the terminal as it is", "[checkpoint]") {
    const std::string message = refusal(R"({"\u001b[2J\n)" + std::string(1000, 'x') + R"(": 1})");
    CHECK(mentions(message, {"\\x1b[2J\\x0a", "..."}));
    CHECK(message.size() < 400);
}
