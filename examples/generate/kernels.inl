// generate - the loops of kernels.hpp, for the level that LOWRANK_TARGET and LOWRANK_INLINE name.
// SPDX-License-Identifier: MIT

/// The sum of kLanes partial sums, pairwise.
LOWRANK_INLINE float sum_of(float* lanes) {
    for (std::int64_t width = kLanes / 2; width > 0; width /= 2) {
        for (std::int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
    }
    return lanes[0];
}

/// exp(x) to 2 units in the last place, without branches: Cephes' expf (Moshier 1992). 2^n is made in the exponent's
/// bits, so the result is clamped to the normal numbers.
LOWRANK_INLINE float fast_exp(float x) {
    constexpr float kLeast = -87.3F;       // exp() stays normal
    constexpr float kMost = 88.0F;         // and finite
    constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to a whole number
    x = x < kLeast ? kLeast : x;
    x = x > kMost ? kMost : x;
    const float shifted = x * 1.44269504F + kRound;
    const float n = shifted - kRound;
    const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
    float p = 1.9875691500e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kRound) + 127U)
                                   << 23;
    return p * std::bit_cast<float>(exponent);
}

LOWRANK_INLINE float dot(const float* a, const float* b, std::int64_t count) {
    float lanes[kLanes] = {};
    std::int64_t k = 0;
    for (; k + kLanes <= count; k += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) lanes[l] += a[k + l] * b[k + l];
    }
    float sum = sum_of(lanes);
    for (; k < count; ++k) sum += a[k] * b[k];
    return sum;
}

LOWRANK_TARGET inline void scores(const float* query, const float* keys, std::int64_t count, std::int64_t size,
                                  float scale, float* scores) {
    for (std::int64_t i = 0; i < count; ++i) scores[i] = scale * dot(query, keys + i * size, size);
}

LOWRANK_TARGET inline void weighted_sum(const float* weights, const float* values, std::int64_t count,
                                        std::int64_t size, float* out) {
    constexpr std::int64_t kBlock = 4 * kLanes;  // sums that stay in registers
    std::int64_t j = 0;
    for (; j + kBlock <= size; j += kBlock) {
        float sums[kBlock] = {};
        for (std::int64_t i = 0; i < count; ++i) {
            for (std::int64_t l = 0; l < kBlock; ++l) sums[l] += weights[i] * values[i * size + j + l];
        }
        for (std::int64_t l = 0; l < kBlock; ++l) out[j + l] = sums[l];
    }
    for (std::int64_t l = j; l < size; ++l) out[l] = 0;
    for (std::int64_t i = 0; i < count && j < size; ++i) {
        for (std::int64_t l = j; l < size; ++l) out[l] += weights[i] * values[i * size + l];
    }
}

LOWRANK_INLINE float largest_of(const float* x, std::int64_t count) {
    float lanes[kLanes];
    for (std::int64_t l = 0; l < kLanes; ++l) lanes[l] = x[0];
    std::int64_t k = 0;
    for (; k + kLanes <= count; k += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) lanes[l] = x[k + l] > lanes[l] ? x[k + l] : lanes[l];
    }
    for (; k < count; ++k) lanes[0] = x[k] > lanes[0] ? x[k] : lanes[0];
    for (std::int64_t l = 1; l < kLanes; ++l) lanes[0] = lanes[l] > lanes[0] ? lanes[l] : lanes[0];
    return lanes[0];
}

LOWRANK_TARGET inline float log_sum_exp(const float* x, std::int64_t count) {
    const float largest = largest_of(x, count);
    float lanes[kLanes] = {};
    std::int64_t k = 0;
    for (; k + kLanes <= count; k += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) lanes[l] += fast_exp(x[k + l] - largest);
    }
    float sum = sum_of(lanes);
    for (; k < count; ++k) sum += fast_exp(x[k] - largest);
    return largest + std::log(sum);
}

LOWRANK_TARGET inline void softmax(float* x, std::int64_t count) {
    const float largest = largest_of(x, count);
    for (std::int64_t i = 0; i < count; ++i) x[i] = fast_exp(x[i] - largest);
    float lanes[kLanes] = {};
    std::int64_t k = 0;
    for (; k + kLanes <= count; k += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) lanes[l] += x[k + l];
    }
    float sum = sum_of(lanes);
    for (; k < count; ++k) sum += x[k];
    const float factor = 1.0F / sum;
    for (std::int64_t i = 0; i < count; ++i) x[i] *= factor;
}

template <lowrank::Scalar T>
LOWRANK_TARGET void gated_silu(const float* gate, const float* up, std::int64_t count, T* out) {
    for (std::int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<T>(gate[i] / (1.0F + fast_exp(-gate[i])) * up[i]);
    }
}

template <lowrank::Scalar T>
LOWRANK_TARGET void rms_norm(const float* x, const float* weight, float epsilon, std::int64_t count, T* out) {
    const float factor = 1.0F / std::sqrt(dot(x, x, count) / static_cast<float>(count) + epsilon);
    for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(x[i] * factor * weight[i]);
}

template <lowrank::Scalar T>
LOWRANK_TARGET void layer_norm(const float* x, const float* weight, const float* bias, float epsilon,
                               std::int64_t count, T* out) {
    float sums[kLanes] = {};
    for (std::int64_t k = 0; k < count; ++k) sums[k % kLanes] += x[k];
    const float mean = sum_of(sums) / static_cast<float>(count);
    float squares[kLanes] = {};
    for (std::int64_t k = 0; k < count; ++k) squares[k % kLanes] += (x[k] - mean) * (x[k] - mean);
    const float factor = 1.0F / std::sqrt(sum_of(squares) / static_cast<float>(count) + epsilon);
    for (std::int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<T>((x[i] - mean) * factor * weight[i] + (bias != nullptr ? bias[i] : 0.0F));
    }
}

LOWRANK_TARGET inline void add(float* x, const float* y, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) x[i] += y[i];
}

template <lowrank::Scalar T>
LOWRANK_TARGET void narrow(const float* x, std::int64_t count, T* out) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(x[i]);
}

template <lowrank::Scalar T>
Kernels<T> kernels() {
    return {scores, weighted_sum, softmax, log_sum_exp, gated_silu<T>, rms_norm<T>, layer_norm<T>, add, narrow<T>};
}
