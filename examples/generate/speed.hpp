// generate - how fast a model reads and writes, apart from any text.
// SPDX-License-Identifier: MIT
#pragma once

#include "generation.hpp"
#include "language_model.hpp"

#include <lowrank/cpu/context.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace engine {

struct Speed {
    std::int64_t prefill_tokens = 0;
    double prefill_seconds = 0;
    std::int64_t decode_tokens = 0;
    double decode_seconds = 0;
};

/// Medians over `repeats` runs, after one that is not counted: the time to read `prefill` tokens and, from an empty
/// text, to write `decode`. `keep_on` returns false to stop early. Throws ValueError if the context is too small.
inline Speed measure_speed(const LanguageModel& model, const lowrank::cpu::Context& context, std::int64_t prefill,
                           std::int64_t decode, int repeats, const std::function<bool()>& keep_on) {
    const std::int64_t capacity = std::max(prefill, decode);
    if (capacity > model.config().context) {
        throw lowrank::ValueError(std::to_string(capacity) + " tokens exceed the model's context of " +
                                  std::to_string(model.config().context));
    }
    std::vector<Token> tokens(static_cast<std::size_t>(capacity));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        tokens[i] = static_cast<Token>((i * 7919 + 1) % static_cast<std::size_t>(model.config().vocabulary));
    }
    const std::span<const Token> all(tokens);
    const auto session = model.start(context, {.capacity = capacity, .rows = std::min(kBatch, capacity)});
    const auto median_seconds = [&](std::int64_t count, bool together) {
        std::vector<double> seconds;
        for (int run = 0; run <= repeats && count > 0 && (run == 0 || keep_on()); ++run) {
            session->restart();
            const lowrank::Stopwatch watch;
            if (together) {
                static_cast<void>(feed_all(*session, all.first(static_cast<std::size_t>(count))));
            } else {
                for (std::int64_t i = 0; i < count && keep_on(); ++i) {
                    static_cast<void>(feed_all(*session, all.subspan(static_cast<std::size_t>(i), 1)));
                }
            }
            if (run > 0) seconds.push_back(watch.seconds());
        }
        if (seconds.empty()) return 0.0;
        std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2),
                         seconds.end());
        return seconds[seconds.size() / 2];
    };
    return {prefill, median_seconds(prefill, true), decode, median_seconds(decode, false)};
}

}  // namespace engine
