// generate - one block of the decoder: attention and MLP, each on the normed residual stream and added to it.
// SPDX-License-Identifier: MIT
#pragma once

#include "activations.hpp"
#include "attention.hpp"
#include "config.hpp"
#include "mlp.hpp"
#include "norm.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace engine {

template <lowrank::Scalar T>
class Block {
public:
    static Block load(const lowrank::ModelFolder& model, const std::string& module, const ModelConfig& config) {
        Block block{Norm::load(model, module + ".input_layernorm", config, config.hidden, true),
                    Attention<T>::load(model, module + ".self_attn", config),
                    Mlp<T>::load(model, module + ".mlp", config)};
        if (!config.parallel_residual) {
            block.mlp_norm_ = Norm::load(model, module + ".post_attention_layernorm", config, config.hidden, true);
        }
        return block;
    }

    /// at.x becomes the block's output.
    void forward(const Pass<T>& pass, const Rope& rope, KvCache& cache) const {
        add_attention(pass, rope, cache);
        expand(pass);
        mlp_.finish(pass);
        add_branch(pass);
    }

    /// The first half: at.x gains what attention makes of it.
    void add_attention(const Pass<T>& pass, const Rope& rope, KvCache& cache) const {
        input_norm_.forward(pass, pass.at.attention_input);
        attention_.forward(pass, rope, cache);
        add_branch(pass);
    }
    /// The MLP's first layers: at.gate and at.up.
    void expand(const Pass<T>& pass) const {
        if (mlp_norm_) mlp_norm_->forward(pass, pass.at.mlp_input);
        mlp_.expand(pass, mlp_norm_ ? pass.at.mlp_input : pass.at.attention_input);
    }

    [[nodiscard]] const Norm& input_norm() const { return input_norm_; }
    /// None with a parallel residual: the MLP then reads what attention reads.
    [[nodiscard]] const std::optional<Norm>& mlp_norm() const { return mlp_norm_; }
    [[nodiscard]] const Attention<T>& attention() const { return attention_; }
    [[nodiscard]] Attention<T>& attention() { return attention_; }
    [[nodiscard]] const Mlp<T>& mlp() const { return mlp_; }
    [[nodiscard]] Mlp<T>& mlp() { return mlp_; }

    /// Calls visit(name, layer) for each linear layer.
    template <class F>
    void each_linear(F&& visit) const {
        attention_.each_linear(visit);
        mlp_.each_linear(visit);
    }
    /// Calls visit(group) for the linear layers of each input.
    template <class F>
    void each_group(F&& visit) const {
        attention_.each_group(visit);
        mlp_.each_group(visit);
    }
    [[nodiscard]] std::int64_t norm_parameters() const {
        return input_norm_.parameters() + (mlp_norm_ ? mlp_norm_->parameters() : 0) + attention_.norm_parameters();
    }

private:
    Block(Norm input_norm, Attention<T> attention, Mlp<T> mlp)
        : input_norm_(std::move(input_norm)), attention_(std::move(attention)), mlp_(std::move(mlp)) {}

    static void add_branch(const Pass<T>& pass) {
        pass.each_row(
            [&](std::int64_t row) { pass.kernels.add(pass.at.x.row(row), pass.at.branch.row(row), pass.at.x.cols()); });
    }

    Norm input_norm_;
    Attention<T> attention_;
    std::optional<Norm> mlp_norm_;
    Mlp<T> mlp_;
};

}  // namespace engine
