// generate - the loops of backward_kernels.hpp, for the level that LOWRANK_TARGET names. dot(), fast_exp() and sum_of()
// are those of kernels.inl at the same level. SPDX-License-Identifier: MIT

LOWRANK_TARGET inline float dot_back(const float* a, const float* b, std::int64_t count) {
    return dot(a, b, count);
}

LOWRANK_TARGET inline void gated_silu_back(const float* gradient, float* gate, float* up, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float g = gate[i];
        const float u = up[i];
        const float sigmoid = 1.0F / (1.0F + fast_exp(-g));
        up[i] = gradient[i] * g * sigmoid;
        gate[i] = gradient[i] * u * sigmoid * (1.0F + g * (1.0F - sigmoid));
    }
}

LOWRANK_TARGET inline void softmax_back(const float* p, float mean, float factor, std::int64_t count, float* gradient) {
    for (std::int64_t i = 0; i < count; ++i) gradient[i] = factor * p[i] * (gradient[i] - mean);
}

// y = w x r with r = (mean(x^2) + epsilon)^(-1/2): dx = r (w dy - x r^2 mean(w dy x)).
LOWRANK_TARGET inline void rms_norm_back(const float* x, const float* weight, float epsilon, std::int64_t count,
                                         float* gradient) {
    const float size = static_cast<float>(count);
    const float factor = 1.0F / std::sqrt(dot(x, x, count) / size + epsilon);
    for (std::int64_t i = 0; i < count; ++i) gradient[i] *= weight[i];
    const float along = dot(gradient, x, count) / size * factor * factor;
    for (std::int64_t i = 0; i < count; ++i) gradient[i] = factor * (gradient[i] - x[i] * along);
}

// y = w z + b with z = (x - mean(x)) r: dx = r (w dy - mean(w dy) - z mean(w dy z)).
LOWRANK_TARGET inline void layer_norm_back(const float* x, const float* weight, float epsilon, std::int64_t count,
                                           float* gradient) {
    const float size = static_cast<float>(count);
    float sums[kLanes] = {};
    for (std::int64_t k = 0; k < count; ++k) sums[k % kLanes] += x[k];
    const float mean = sum_of(sums) / size;
    float squares[kLanes] = {};
    for (std::int64_t k = 0; k < count; ++k) squares[k % kLanes] += (x[k] - mean) * (x[k] - mean);
    const float factor = 1.0F / std::sqrt(sum_of(squares) / size + epsilon);
    float gradients[kLanes] = {};
    float products[kLanes] = {};
    for (std::int64_t k = 0; k < count; ++k) {
        gradient[k] *= weight[k];
        gradients[k % kLanes] += gradient[k];
        products[k % kLanes] += gradient[k] * (x[k] - mean);
    }
    const float mean_gradient = sum_of(gradients) / size;
    const float along = sum_of(products) / size * factor * factor;
    for (std::int64_t k = 0; k < count; ++k)
        gradient[k] = factor * (gradient[k] - mean_gradient - (x[k] - mean) * along);
}

LOWRANK_TARGET inline BackwardKernels backward_kernels() {
    return {dot_back, gated_silu_back, softmax_back, rms_norm_back, layer_norm_back};
}
