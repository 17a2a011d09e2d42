// generate - lets a model continue a text, and times it.
// SPDX-License-Identifier: MIT
#pragma once

#include "language_model.hpp"
#include "sampler.hpp"

#include <lowrank/cpu/context.hpp>
#include <lowrank/stopwatch.hpp>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace engine {

enum class StopReason : std::uint8_t { stop_token, most_tokens, context_full, interrupted };

struct GenerationOptions {
    std::int64_t most_tokens = 200;
    Sampling sampling;
    std::vector<std::int64_t> stop_tokens;
    std::function<void(Token)> on_token = [](Token) {};
    std::function<bool()> interrupted = [] { return false; };
};

struct Generation {
    std::vector<Token> tokens;  ///< new ones; the stop token is not among them
    StopReason stop = StopReason::most_tokens;
    std::int64_t prompt_tokens = 0;
    double prefill_seconds = 0;  ///< from the prompt to the first token
    std::int64_t decoded = 0;    ///< tokens fed one by one after it
    double decode_seconds = 0;
};

/// Tokens of a prompt that go through the model together: enough for its products to run at full speed, and few enough
/// for their buffers to stay small.
inline constexpr std::int64_t kBatch = 512;

/// Throws ValueError for a prompt without tokens, or longer than the model's context.
Generation generate(const LanguageModel& model, const lowrank::cpu::Context& context, std::span<const Token> prompt,
                    const GenerationOptions& options);

/// Feeds any number of tokens in batches and returns the logits after the last.
std::span<const float> feed_all(Session& session, std::span<const Token> tokens);

}  // namespace engine
