// Statistics files: what is written is read, several add up, and what is malformed is refused.
// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/statistics.hpp>

#include "support.hpp"

#include <cmath>
#include <limits>
#include <random>

using namespace lowrank;
using namespace lowrank_test;

namespace {

const std::vector<std::string> kModules = {"layers.0.q_proj", "layers.0.k_proj", "layers.0.o_proj"};
const std::vector<std::string> kReaders = {"layers.0.q_proj", "layers.0.k_proj"};

Moments some_moments(std::int64_t rows, std::int64_t width, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Matrix<float> x(rows, width);
    for (std::int64_t i = 0; i < rows * width; ++i) x.data()[i] = normal(random);
    Moments moments(width);
    moments.add(cpu::Context({.threads = 1}), x);
    return moments;
}

/// q and k share an input of width 6; o has one of width 4; q has gradients of width 5.
void write_some(const std::filesystem::path& path, unsigned seed) {
    StatisticsWriter out(path, kModules);
    out.write_input("layers.0.q_proj", kReaders, some_moments(20, 6, seed));
    out.write_gradient("layers.0.q_proj", some_moments(10, 5, seed + 1));
    out.write_input("layers.0.o_proj", std::vector<std::string>{"layers.0.o_proj"}, some_moments(20, 4, seed + 2));
    out.commit({text_hash("text " + std::to_string(seed))});
}

/// Entries rounded to F32 twice at most, in a file and in a sum of two files.
void check_near(const Moments& found, const Moments& expected) {
    REQUIRE(found.width() == expected.width());
    CHECK(found.rows() == expected.rows());
    const auto near = [](double a, double b, double scale) { return std::abs(a - b) <= std::ldexp(scale, -22); };
    for (std::int64_t i = 0; i < found.width(); ++i) {
        for (std::int64_t j = 0; j < found.width(); ++j) {
            const double scale = std::sqrt(expected.gram()(i, i) * expected.gram()(j, j));
            REQUIRE(near(found.gram()(i, j), expected.gram()(i, j), scale));
        }
        if (found.sum().empty()) continue;
        const auto column = static_cast<std::size_t>(i);
        const double scale = std::sqrt(expected.gram()(i, i) * static_cast<double>(expected.rows()));
        REQUIRE(near(found.sum()[column], expected.sum()[column], scale));
    }
}

/// A file with this metadata and one tensor, layers.0.q_proj.input_gram, of these elements.
std::string opened(const std::map<std::string, std::string>& metadata, const std::vector<float>& gram = {1, 0, 1}) {
    const TemporaryFolder folder;
    SafetensorsWriter file(folder / "s.safetensors", 4096);
    file.begin("layers.0.q_proj.input_gram", "F32", {gram.size()});
    file.write(bytes_of(gram));
    file.commit(metadata);
    return message_of<Error>([&] {
        const Statistics statistics(folder / "s.safetensors");
        static_cast<void>(statistics.input("layers.0.q_proj"));
    });
}

std::map<std::string, std::string> with_layers(const std::string& layers) {
    return {{"lowrank.statistics", "1"}, {"lowrank.layers", layers}};
}

}  // namespace

TEST_CASE("statistics are read as they were written", "[checkpoint][statistics]") {
    const TemporaryFolder folder;
    write_some(folder / "s.safetensors", 1);
    const Statistics statistics(folder / "s.safetensors");
    CHECK(statistics.texts() == std::vector<std::string>{text_hash("text 1")});
    REQUIRE(statistics.layers().size() == 3);
    CHECK(statistics.find("layers.0.k_proj")->input == "layers.0.q_proj");
    CHECK(statistics.find("layers.0.v_proj") == nullptr);
    CHECK(statistics.d_in("layers.0.k_proj") == 6);
    CHECK(statistics.d_out("layers.0.k_proj") == 0);
    CHECK(statistics.d_out("layers.0.q_proj") == 5);
    CHECK(statistics.d_in("layers.0.v_proj") == 0);
    check_near(*statistics.input("layers.0.k_proj"), some_moments(20, 6, 1));
    check_near(*statistics.gradient("layers.0.q_proj"), some_moments(10, 5, 2));
    check_near(*statistics.input("layers.0.o_proj"), some_moments(20, 4, 3));
    CHECK_FALSE(statistics.gradient("layers.0.k_proj"));
    CHECK_FALSE(statistics.input("layers.0.v_proj"));
    CHECK(statistics.gradient("layers.0.q_proj")->sum().empty());
}

TEST_CASE("statistics of several workers add up", "[checkpoint][statistics]") {
    const TemporaryFolder folder;
    write_some(folder / "a.safetensors", 1);
    write_some(folder / "b.safetensors", 7);
    {
        std::vector<Statistics> parts;
        parts.emplace_back(folder / "a.safetensors");
        parts.emplace_back(folder / "b.safetensors");
        merge_statistics(parts, folder / "both.safetensors");
    }
    const Statistics both(folder / "both.safetensors");
    CHECK(both.texts() == std::vector<std::string>{text_hash("text 1"), text_hash("text 7")});
    CHECK(both.find("layers.0.k_proj")->input == "layers.0.q_proj");
    Moments inputs = some_moments(20, 6, 1);
    inputs.merge(some_moments(20, 6, 7));
    check_near(*both.input("layers.0.k_proj"), inputs);
    Moments gradients = some_moments(10, 5, 2);
    gradients.merge(some_moments(10, 5, 8));
    check_near(*both.gradient("layers.0.q_proj"), gradients);
}

TEST_CASE("statistics that do not belong together are not merged", "[checkpoint][statistics]") {
    const TemporaryFolder folder;
    write_some(folder / "a.safetensors", 1);
    {
        StatisticsWriter out(folder / "b.safetensors", kModules);
        out.write_input("layers.0.q_proj", kReaders, some_moments(3, 6, 1));
        out.commit({});
    }
    std::vector<Statistics> parts;
    CHECK(mentions(message_of<ValueError>([&] { merge_statistics(parts, folder / "c.safetensors"); }),
                   {"no statistics"}));
    parts.emplace_back(folder / "a.safetensors");
    parts.emplace_back(folder / "b.safetensors");
    CHECK(mentions(message_of<ValueError>([&] { merge_statistics(parts, folder / "c.safetensors"); }),
                   {"a.safetensors", "b.safetensors", "not of the same model"}));
    CHECK(folder.names() == std::set<std::string>{"a.safetensors", "b.safetensors"});
}

TEST_CASE("malformed statistics are refused", "[checkpoint][statistics]") {
    const std::string good = R"({"layers.0.q_proj": {"input": "layers.0.q_proj", "tokens": 3, "gradient_tokens": 0}})";
    CHECK(mentions(opened({{"format", "pt"}}), {"s.safetensors", "holds no statistics"}));
    CHECK(mentions(opened({{"lowrank.statistics", "2"}}), {"version '2'"}));
    CHECK(mentions(opened({{"lowrank.statistics", "1"}}), {"lowrank.layers"}));
    CHECK(mentions(opened(with_layers("{")), {"s.safetensors"}));
    CHECK(mentions(opened(with_layers(R"({"a": {"input": "a"}})")), {"'a'", "is not {\"input\""}));
    CHECK(mentions(opened(with_layers(R"({"a": {"input": "a", "tokens": -3, "gradient_tokens": 0}})")), {"'a'"}));
    CHECK(mentions(opened(with_layers(R"({"a": {"input": "a", "tokens": 3, "gradient_tokens": 0}})")),
                   {"'a.input_gram' is missing"}));
    CHECK(mentions(
        opened(with_layers(R"({"layers.0.q_proj": {"input": "layers.0.q_proj", "tokens": 3, "gradient_tokens": 2}})")),
        {"'layers.0.q_proj.gradient_gram' is missing"}));
    CHECK(mentions(opened(with_layers(good), {1, 2}), {"[2]", "not the upper triangle"}));
    CHECK(mentions(opened(with_layers(good), {-1, 0, 1}), {"input_gram", "negative sum of squares at row 0"}));
    CHECK(mentions(opened(with_layers(good), {1, std::numeric_limits<float>::infinity(), 1}),
                   {"input_gram", "not finite at row 0, column 1"}));
    const TemporaryFolder folder;
    CHECK(mentions(message_of<ValueError>([&] {
                       StatisticsWriter out(folder / "s.safetensors", kModules);
                       out.write_gradient("layers.0.q_proj", some_moments(3, 5, 1));
                       out.commit({});
                   }),
                   {"'layers.0.q_proj' lack those of its input"}));
    CHECK(folder.names().empty());
}

TEST_CASE("the hash of a text is FNV-1a", "[checkpoint][statistics]") {
    CHECK(text_hash("") == "cbf29ce484222325");  // the test vectors of the IETF draft by Fowler, Noll, Vo, Eastlake
    CHECK(text_hash("a") == "af63dc4c8601ec8c");
    CHECK(text_hash("foobar") == "85944171f73967e8");
}
