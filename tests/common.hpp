// What many tests use: a context, the fixtures, and the message of an error.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/error.hpp>

#include <filesystem>
#include <string>

namespace test {

inline const lowrank::cpu::Context kCpu;
inline const std::filesystem::path kFixtures = LOWRANK_FIXTURES;

/// The message of the lowrank::Error that `action` throws.
std::string message(const auto& action) {
    try {
        action();
    } catch (const lowrank::Error& error) {
        return error.what();
    }
    return "nothing was thrown";
}

}  // namespace test
