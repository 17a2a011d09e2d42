// generate - rotary position embedding (Su et al. 2021): turns pairs of a head's numbers by an angle that grows with
// the position.
// SPDX-License-Identifier: MIT
//
// The pairs are (i, i + dimensions / 2), as transformers lays them out; what lies behind `dimensions` stays. Angles are
// computed in float as there, so that long texts agree with it.
#pragma once

#include "config.hpp"

#include <lowrank/matrix.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace engine {

/// The angle of each pair at position 1.
inline std::vector<float> rope_frequencies(const RopeConfig& config) {
    std::vector<float> frequencies;
    for (std::int64_t i = 0; i < config.dimensions; i += 2) {
        const double exponent = static_cast<double>(i) / static_cast<double>(config.dimensions);
        double frequency = 1 / std::pow(config.theta, exponent);
        if (config.llama3) {
            // Long waves are stretched, short ones kept, those between blended.
            const Llama3Scaling& scaling = *config.llama3;
            const double waves = scaling.original_context * frequency / (2 * std::numbers::pi);
            const double kept =
                (waves - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor);
            const double share = kept < 0 ? 0 : kept > 1 ? 1 : kept;
            frequency *= (1 - share) / scaling.factor + share;
        }
        frequencies.push_back(static_cast<float>(frequency));
    }
    return frequencies;
}

class Rope {
public:
    /// For positions below `positions`.
    Rope(const RopeConfig& config, std::int64_t positions)
        : cosines_(positions, config.dimensions / 2), sines_(positions, config.dimensions / 2) {
        const std::vector<float> frequencies = rope_frequencies(config);
        for (std::int64_t position = 0; position < positions; ++position) {
            for (std::int64_t i = 0; i < cosines_.cols(); ++i) {
                const float angle = static_cast<float>(position) * frequencies[static_cast<std::size_t>(i)];
                cosines_(position, i) = std::cos(angle);
                sines_(position, i) = std::sin(angle);
            }
        }
    }

    /// Turns one head's numbers in place.
    void rotate(float* head, std::int64_t position) const { turn(head, position, 1); }
    /// Turns them back: the transpose of `rotate`.
    void rotate_back(float* head, std::int64_t position) const { turn(head, position, -1); }

private:
    void turn(float* head, std::int64_t position, float sign) const {
        const std::int64_t half = cosines_.cols();
        const float* cosine = cosines_.row(position);
        const float* sine = sines_.row(position);
        for (std::int64_t i = 0; i < half; ++i) {
            const float first = head[i];
            const float second = head[i + half];
            head[i] = first * cosine[i] - second * sign * sine[i];
            head[i + half] = second * cosine[i] + first * sign * sine[i];
        }
    }

    lowrank::Matrix<float> cosines_;
    lowrank::Matrix<float> sines_;
};

}  // namespace engine
