// generate - perplexity.
// SPDX-License-Identifier: MIT
#include "perplexity.hpp"

#include "kernels.hpp"

#include <lowrank/error.hpp>

#include <algorithm>
#include <cmath>
#include <string>

namespace engine {

std::optional<Perplexity> perplexity(const LanguageModel& model, const lowrank::cpu::Context& context,
                                     std::span<const Token> tokens, std::int64_t window,
                                     const std::function<bool(std::int64_t, double)>& progress) {
    if (tokens.size() < 2) throw lowrank::ValueError("a text of fewer than 2 tokens has no perplexity");
    if (window < 2 || window > model.config().context) {
        throw lowrank::ValueError("a window of " + std::to_string(window) + " tokens is not within 2 and the model's " +
                                  "context of " + std::to_string(model.config().context));
    }
    window = std::min(window, static_cast<std::int64_t>(tokens.size()));
    const Kernels<float> kernels = kernels_for<float>(context.isa());
    const auto session = model.start(context, {.capacity = window, .rows = window});
    double loss = 0;
    Perplexity result;
    for (std::size_t begin = 0; begin + 1 < tokens.size(); begin += static_cast<std::size_t>(window)) {
        const auto part = tokens.subspan(begin, std::min(tokens.size() - begin, static_cast<std::size_t>(window)));
        const auto predicted = static_cast<std::int64_t>(part.size()) - 1;
        session->restart();
        session->feed(part);
        for (std::int64_t first = 0; first < predicted; first += Session::kMostLogits) {
            const auto logits = session->logits(first, std::min(Session::kMostLogits, predicted - first));
            for (std::int64_t row = 0; row < logits.rows(); ++row) {
                const float* at = logits.row(row);
                const Token next = part[static_cast<std::size_t>(first + row + 1)];
                loss += static_cast<double>(kernels.log_sum_exp(at, logits.cols())) - static_cast<double>(at[next]);
            }
        }
        result.predictions += predicted;
        result.value = std::exp(loss / static_cast<double>(result.predictions));
        if (!progress(static_cast<std::int64_t>(begin + part.size()), result.value)) return std::nullopt;
    }
    if (!std::isfinite(loss)) {
        throw lowrank::ValueError(
            "the model's logits are not finite: its weights overflow the storage type; try --type f32");
    }
    return result;
}

}  // namespace engine
