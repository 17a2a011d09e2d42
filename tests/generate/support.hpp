// The small models of fixtures/generate (make-model-fixtures), and what transformers computes of them.
#pragma once

#include "language_model.hpp"

#include <lowrank/checkpoint/safetensors.hpp>
#include <lowrank/matrix.hpp>

#include "catch.hpp"
#include "fixtures.hpp"

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace test {

inline const std::vector<std::string> kModels = {"llama", "llama-biased", "stablelm", "stablelm-parallel",
                                                 "llama-low-rank"};

inline std::filesystem::path model_folder(const std::string& model) {
    return kFixtures / "generate" / model;
}

struct Expected {
    std::vector<engine::Token> ids;
    lowrank::Matrix<float> logits;
};

inline Expected expected(const std::string& model) {
    const lowrank::SafetensorsReader file(model_folder(model) / "expected.safetensors");
    Expected result{{}, file.matrix<float>("logits")};
    const std::string& ids = file.metadata().at("ids");
    for (const char* at = ids.data(); at < ids.data() + ids.size(); ++at) {
        engine::Token id = 0;
        at = std::from_chars(at, ids.data() + ids.size(), id).ptr;
        result.ids.push_back(id);
    }
    REQUIRE(static_cast<std::int64_t>(result.ids.size()) == result.logits.rows());
    return result;
}

}  // namespace test
