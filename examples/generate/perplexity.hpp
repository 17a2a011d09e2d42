// generate - perplexity: how surprised a model is by a text.
// SPDX-License-Identifier: MIT
#pragma once

#include "language_model.hpp"

#include <lowrank/cpu/context.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

namespace engine {

struct Perplexity {
    double value = 0;              ///< exp(mean of -log p)
    std::int64_t predictions = 0;  ///< tokens that were predicted: all but each window's first
};

/// Cuts the text into windows, each read from its beginning. `progress` is called after each window with the tokens
/// read and the perplexity so far; it returns false to stop, and then there is no result.
/// Throws ValueError for fewer than two tokens or a window of fewer, or one beyond the model's context.
std::optional<Perplexity> perplexity(const LanguageModel& model, const lowrank::cpu::Context& context,
                                     std::span<const Token> tokens, std::int64_t window,
                                     const std::function<bool(std::int64_t, double)>& progress);

}  // namespace engine
