// generate - the gradient of the loss at the decoder's last hidden state.
// SPDX-License-Identifier: MIT
//
// The loss is the cross-entropy of the next tokens, summed over the tokens of a window; its gradient at the logits is
// softmax(logits) less one at the next token.
#pragma once

#include "backward_kernels.hpp"
#include "config.hpp"
#include "embedding.hpp"
#include "kernels.hpp"
#include "language_model.hpp"
#include "norm.hpp"
#include "norm_backward.hpp"
#include "weights.hpp"

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace engine {

class LossBackward {
public:
    LossBackward(const lowrank::cpu::Context& context, const lowrank::ModelFolder& model, const ModelConfig& config)
        : context_(context),
          kernels_(kernels_for<float>(context.isa())),
          backward_(backward_kernels_for(context.isa())),
          norm_(Norm::load(model, "model.norm", config, config.hidden, true)),
          head_(load_whole_weight(context, model, head_module(config), config.hidden, config.vocabulary)),
          logits_(std::clamp<std::int64_t>(kMostLogits / config.vocabulary, 16, 512), config.vocabulary),
          normed_(logits_.rows(), config.hidden) {}

    /// `x` holds the last block's outputs for the tokens of a window; they become the gradients at them.
    void run(std::span<const Token> tokens, lowrank::MatrixView<float> x) {
        const std::int64_t predictions = x.rows() - 1;  // the last token has no next one
        for (std::int64_t first = 0; first < predictions; first += logits_.rows()) {
            const std::int64_t rows = std::min(logits_.rows(), predictions - first);
            part(tokens.subspan(static_cast<std::size_t>(first + 1), static_cast<std::size_t>(rows)),
                 x.block(first, 0, rows, x.cols()));
        }
        std::fill_n(x.row(predictions), x.cols(), 0.0F);
    }

private:
    static constexpr auto kRounded = lowrank::cpu::Operands::rounded;
    static constexpr std::int64_t kMostLogits = std::int64_t{1} << 24;  // 64 MiB of them at a time

    void part(std::span<const Token> next, lowrank::MatrixView<float> x) {
        using lowrank::cpu::Transpose;
        const lowrank::MatrixView<float> normed(normed_.data(), x.rows(), x.cols());
        const lowrank::MatrixView<float> logits(logits_.data(), x.rows(), logits_.cols());
        context_.parallel_for(x.rows(), [&](std::int64_t row) { norm_.apply(kernels_, x.row(row), normed.row(row)); });
        gemm(context_, 1.0F, normed, Transpose::no, head_, Transpose::yes, 0.0F, logits, kRounded);
        context_.parallel_for(x.rows(), [&](std::int64_t row) {
            kernels_.softmax(logits.row(row), logits.cols());
            logits(row, next[static_cast<std::size_t>(row)]) -= 1;
        });
        gemm(context_, 1.0F, logits, Transpose::no, head_, Transpose::no, 0.0F, normed, kRounded);
        context_.parallel_for(x.rows(), [&](std::int64_t row) {
            norm_backward(backward_, norm_, x.row(row), normed.row(row));
            std::copy_n(normed.row(row), x.cols(), x.row(row));
        });
    }

    const lowrank::cpu::Context& context_;
    Kernels<float> kernels_;
    BackwardKernels backward_;
    Norm norm_;
    lowrank::Matrix<float> head_;  ///< vocabulary x hidden
    lowrank::Matrix<float> logits_, normed_;
};

}  // namespace engine
