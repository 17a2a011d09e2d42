// What many tests use: a context, and the message of an error.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/error.hpp>

#include <string>

namespace test {

inline const lowrank::cpu::Context kCpu;

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
