// generate - the norms of a model: RMSNorm (Llama) or LayerNorm (StableLM).
// SPDX-License-Identifier: MIT
#pragma once

#include "activations.hpp"
#include "config.hpp"
#include "kernels.hpp"
#include "weights.hpp"

#include <lowrank/checkpoint/model_folder.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace engine {

class Norm {
public:
    /// MODULE.weight and, for LayerNorm, MODULE.bias if `biased`.
    static Norm load(const lowrank::ModelFolder& model, const std::string& module, const ModelConfig& config,
                     std::int64_t size, bool biased) {
        Norm norm;
        norm.centred_ = config.architecture == Architecture::stablelm;
        norm.epsilon_ = config.norm_epsilon;
        norm.weight_ = load_vector(model, module + ".weight", size);
        if (norm.centred_ && biased) norm.bias_ = load_vector(model, module + ".bias", size);
        return norm;
    }

    /// LayerNorm, which takes the mean off; else RMSNorm.
    [[nodiscard]] bool centred() const { return centred_; }
    [[nodiscard]] float epsilon() const { return epsilon_; }
    [[nodiscard]] std::span<const float> weight() const { return weight_; }
    [[nodiscard]] std::int64_t parameters() const { return static_cast<std::int64_t>(weight_.size() + bias_.size()); }

    /// One row; `out` may be `x`.
    template <lowrank::Scalar T>
    void apply(const Kernels<T>& kernels, const float* x, T* out) const {
        const auto size = static_cast<std::int64_t>(weight_.size());
        if (centred_) {
            kernels.layer_norm(x, weight_.data(), bias_.empty() ? nullptr : bias_.data(), epsilon_, size, out);
        } else {
            kernels.rms_norm(x, weight_.data(), epsilon_, size, out);
        }
    }

    /// out = norm(at.x), all rows of the pass.
    template <lowrank::Scalar T>
    void forward(const Pass<T>& pass, lowrank::Matrix<T>& out) const {
        pass.each_row([&](std::int64_t row) { apply(pass.kernels, pass.at.x.row(row), out.row(row)); });
    }

private:
    bool centred_ = false;
    float epsilon_ = 0;
    std::vector<float> weight_;
    std::vector<float> bias_;
};

}  // namespace engine
