// generate - the gradient through one block of the decoder: from its output to its input, and at each linear layer.
// SPDX-License-Identifier: MIT
//
// Gradients of activations only; the weights stay as they are. Nothing of the forward pass is kept but the block's
// input, from which the rest is computed anew. A layer's gradient passes through it as dX = dY W^T, of
// operands that are rounded to some 11 bits where products of integers are faster than of floats.
#pragma once

#include "activations.hpp"
#include "attention_backward.hpp"
#include "backward_kernels.hpp"
#include "block.hpp"
#include "config.hpp"
#include "norm_backward.hpp"
#include "rope.hpp"
#include "weights.hpp"

#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstdint>
#include <string>

namespace engine {

/// The weights of a block's linear layers as files have them, d_out x d_in.
struct BlockWeights {
    lowrank::Matrix<float> query, key, value, output, gate, up, down;

    static BlockWeights load(const lowrank::cpu::Context& context, const lowrank::ModelFolder& model,
                             const std::string& module, const ModelConfig& config) {
        const auto weight = [&](const char* name, std::int64_t d_in, std::int64_t d_out) {
            return load_whole_weight(context, model, module + name, d_in, d_out);
        };
        return {weight(".self_attn.q_proj", config.hidden, config.query_size()),
                weight(".self_attn.k_proj", config.hidden, config.kv_size()),
                weight(".self_attn.v_proj", config.hidden, config.kv_size()),
                weight(".self_attn.o_proj", config.query_size(), config.hidden),
                weight(".mlp.gate_proj", config.hidden, config.intermediate),
                weight(".mlp.up_proj", config.hidden, config.intermediate),
                weight(".mlp.down_proj", config.intermediate, config.hidden)};
    }
};

class BlockBackward {
public:
    /// For windows of up to `rows` tokens.
    BlockBackward(const ModelConfig& config, const lowrank::cpu::Context& context, std::int64_t rows)
        : kernels_(backward_kernels_for(context.isa())),
          attention_(config, context, rows),
          input_(rows, config.hidden),
          expanded_(rows, config.intermediate),
          attended_(rows, config.query_size()),
          normed_(rows, config.hidden) {}

    /// at.x is the block's input, of a text from its beginning; it is lost. `gradient`, the one at the block's output,
    /// becomes the one at its input. Calls visit(name, gradient at the layer's output) for each linear layer.
    template <lowrank::Scalar T, class F>
    void run(const Pass<T>& pass, const Block<T>& block, const BlockWeights& weights, const Rope& rope, KvCache& cache,
             lowrank::MatrixView<float> gradient, F&& visit) {
        std::copy_n(pass.at.x.data(), pass.rows * pass.at.x.cols(), input_.data());
        block.add_attention(pass, rope, cache);
        block.expand(pass);

        visit("mlp.down_proj", gradient);
        mlp_back(pass, weights, gradient);
        visit("mlp.gate_proj", pass.input(pass.at.gate));
        visit("mlp.up_proj", pass.input(pass.at.up));
        if (block.mlp_norm()) add_norm_back(pass, *block.mlp_norm(), pass.at.x, gradient);

        visit("self_attn.o_proj", gradient);
        multiply(pass, gradient, weights.output, 0, pass.used(attended_));
        attention_.run(pass, kernels_, block.attention(), rope, cache, pass.input(attended_));
        visit("self_attn.q_proj", attention_.query(pass));
        visit("self_attn.k_proj", attention_.key(pass));
        visit("self_attn.v_proj", attention_.value(pass));
        // With a parallel residual the MLP's gradient at the common input is still there, to be added to.
        multiply(pass, attention_.query(pass), weights.query, block.mlp_norm() ? 0.0F : 1.0F, pass.used(normed_));
        multiply(pass, attention_.key(pass), weights.key, 1, pass.used(normed_));
        multiply(pass, attention_.value(pass), weights.value, 1, pass.used(normed_));
        add_norm_back(pass, block.input_norm(), input_, gradient);
    }

private:
    template <lowrank::Scalar T>
    static void multiply(const Pass<T>& pass, lowrank::MatrixView<const float> gradient,
                         const lowrank::Matrix<float>& weight, float beta, lowrank::MatrixView<float> out) {
        using lowrank::cpu::Transpose;
        gemm(pass.context, 1.0F, gradient, Transpose::no, weight, Transpose::no, beta, out,
             lowrank::cpu::Operands::rounded);
    }

    /// at.gate and at.up become the gradients at them, normed_ the one at the MLP's input.
    template <lowrank::Scalar T>
    void mlp_back(const Pass<T>& pass, const BlockWeights& weights, lowrank::MatrixView<const float> gradient) {
        multiply(pass, gradient, weights.down, 0, pass.used(expanded_));
        pass.each_row([&](std::int64_t row) {
            kernels_.gated_silu(expanded_.row(row), pass.at.gate.row(row), pass.at.up.row(row), expanded_.cols());
        });
        multiply(pass, pass.input(pass.at.gate), weights.gate, 0, pass.used(normed_));
        multiply(pass, pass.input(pass.at.up), weights.up, 1, pass.used(normed_));
    }

    /// gradient += what normed_, the gradient at norm(x), is at x.
    template <lowrank::Scalar T>
    void add_norm_back(const Pass<T>& pass, const Norm& norm, const lowrank::Matrix<float>& x,
                       lowrank::MatrixView<float> gradient) {
        pass.each_row([&](std::int64_t row) {
            norm_backward(kernels_, norm, x.row(row), normed_.row(row));
            pass.kernels.add(gradient.row(row), normed_.row(row), gradient.cols());
        });
    }

    BackwardKernels kernels_;
    AttentionBackward attention_;
    lowrank::Matrix<float> input_;
    lowrank::Matrix<float> expanded_, attended_, normed_;  ///< gradients at the inputs of down_proj, o_proj, q_proj
};

}  // namespace engine
