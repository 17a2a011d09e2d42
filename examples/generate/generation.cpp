// generate - the loop that makes text.
// SPDX-License-Identifier: MIT
#include "generation.hpp"

#include <lowrank/error.hpp>

#include <algorithm>
#include <string>

namespace engine {

std::span<const float> feed_all(Session& session, std::span<const Token> tokens) {
    std::int64_t last = 0;
    while (!tokens.empty()) {
        const auto piece = tokens.first(std::min(tokens.size(), static_cast<std::size_t>(session.rows())));
        session.feed(piece);
        last = static_cast<std::int64_t>(piece.size()) - 1;
        tokens = tokens.subspan(piece.size());
    }
    const auto logits = session.logits(last, 1);
    return {logits.data(), static_cast<std::size_t>(logits.cols())};
}

Generation generate(const LanguageModel& model, const lowrank::cpu::Context& context, std::span<const Token> prompt,
                    const GenerationOptions& options) {
    const std::int64_t limit = model.config().context;
    Generation result;
    result.prompt_tokens = static_cast<std::int64_t>(prompt.size());
    if (prompt.empty()) throw lowrank::ValueError("the prompt is empty: there is nothing to continue");
    if (result.prompt_tokens > limit) {
        throw lowrank::ValueError("the prompt of " + std::to_string(prompt.size()) +
                                  " tokens exceeds the model's context of " + std::to_string(limit));
    }
    const std::int64_t capacity = std::min(limit, result.prompt_tokens + options.most_tokens);
    const auto session = model.start(context, {.capacity = capacity, .rows = std::min(kBatch, result.prompt_tokens)});
    Sampler sampler(options.sampling);

    const lowrank::Stopwatch prefill;
    std::span<const float> logits = feed_all(*session, prompt);
    result.prefill_seconds = prefill.seconds();
    const lowrank::Stopwatch decode;
    while (static_cast<std::int64_t>(result.tokens.size()) < options.most_tokens) {
        if (options.interrupted()) {
            result.stop = StopReason::interrupted;
            break;
        }
        const Token token = sampler.choose(logits);
        const auto& stops = options.stop_tokens;
        if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
            result.stop = StopReason::stop_token;
            break;
        }
        result.tokens.push_back(token);
        options.on_token(token);
        if (static_cast<std::int64_t>(result.tokens.size()) == options.most_tokens) break;
        if (session->position() == limit) {
            result.stop = StopReason::context_full;
            break;
        }
        logits = feed_all(*session, std::span(&token, 1));
        ++result.decoded;
    }
    result.decode_seconds = decode.seconds();
    return result;
}

}  // namespace engine
