// generate - chooses the next token from the logits.
// SPDX-License-Identifier: MIT
#pragma once

#include "language_model.hpp"

#include <lowrank/error.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace engine {

struct Sampling {
    double temperature = 0;  ///< 0: the most likely token, always
    double top_p = 1;        ///< choose among the likeliest tokens that together have this probability
    std::uint64_t seed = 0;
};

class Sampler {
public:
    explicit Sampler(Sampling options) : options_(options), random_(options.seed) {}

    /// Throws ValueError if a logit is not a number. O(V), or with a temperature O(V log V) for a vocabulary of V.
    Token choose(std::span<const float> logits) {
        const auto best = std::max_element(logits.begin(), logits.end());
        for (const float logit : logits) {
            if (!lowrank::is_finite(logit)) {
                throw lowrank::ValueError("the model's logits are not finite: its weights overflow the storage type; " +
                                          std::string("try --type f32"));
            }
        }
        if (options_.temperature == 0) return static_cast<Token>(best - logits.begin());
        weights_.clear();
        double total = 0;
        for (std::size_t i = 0; i < logits.size(); ++i) {
            const double weight = std::exp((static_cast<double>(logits[i]) - *best) / options_.temperature);
            weights_.emplace_back(weight, static_cast<Token>(i));
            total += weight;
        }
        if (options_.top_p < 1) total = keep_likeliest(total * options_.top_p);
        // 53 bits: the same on every platform, which std::uniform_real_distribution need not be.
        double left = std::ldexp(static_cast<double>(random_() >> 11), -53) * total;
        for (const auto& [weight, token] : weights_) {
            left -= weight;
            if (left < 0) return token;
        }
        return weights_.back().second;  // rounding used up the rest
    }

private:
    /// Keeps the likeliest tokens until they weigh `wanted`, and returns what they weigh.
    double keep_likeliest(double wanted) {
        std::sort(weights_.begin(), weights_.end(), [](const auto& a, const auto& b) {
            return a.first != b.first ? a.first > b.first : a.second < b.second;
        });
        double total = 0;
        std::size_t count = 0;
        while (count < weights_.size() && (count == 0 || total < wanted)) total += weights_[count++].first;
        weights_.resize(count);
        return total;
    }

    Sampling options_;
    std::mt19937_64 random_;
    std::vector<std::pair<double, Token>> weights_;
};

}  // namespace engine
