// Where the fixtures are.
// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>

namespace test {

inline const std::filesystem::path kFixtures = LOWRANK_FIXTURES;

}  // namespace test
