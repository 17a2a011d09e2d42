// generate - the gradient through causal attention, from the heads' mixtures back to q, k and v.
// SPDX-License-Identifier: MIT
//
// With P = softmax(s Q K^T) and A = P V of a head, and dA the gradient at A:
//     dV = P^T dA    dP = dA V^T    dS = s P (dP - rowsum(dP P))    dQ = dS K    dK = dS^T Q
// rowsum(dP P) is dA . A, so that no row of P is needed twice (Dao et al. 2022). P is computed anew, a block of queries
// at a time. Heads that share keys and values add their gradients up.
#pragma once

#include "activations.hpp"
#include "attention.hpp"
#include "backward_kernels.hpp"
#include "config.hpp"
#include "norm_backward.hpp"
#include "rope.hpp"

#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace engine {

class AttentionBackward {
public:
    /// For windows of up to `rows` tokens.
    AttentionBackward(const ModelConfig& config, const lowrank::cpu::Context& context, std::int64_t rows)
        : heads_(config.heads),
          kv_heads_(config.kv_heads),
          head_size_(config.head_size),
          scale_(1 / std::sqrt(static_cast<float>(config.head_size))),
          query_(rows, config.query_size()),
          key_(rows, config.kv_size()),
          value_(rows, config.kv_size()),
          head_keys_(rows, config.query_size()),
          head_values_(rows, config.query_size()),
          scratch_(context.threads(), 2 * kBlock * rows) {}

    /// `attended` is the gradient at at.attended, of a text from its beginning that attention has just read: at.query
    /// is as it left it. at.query, at.key and at.value are lost where the heads have norms.
    template <lowrank::Scalar T>
    void run(const Pass<T>& pass, const BackwardKernels& kernels, const Attention<T>& attention, const Rope& rope,
             const KvCache& cache, lowrank::MatrixView<const float> attended) {
        mix_back(pass, kernels, cache, attended);
        add_up(pass);
        place_back(pass, kernels, attention, rope);
    }

    /// The gradients at the outputs of q_proj, k_proj and v_proj.
    template <lowrank::Scalar T>
    [[nodiscard]] lowrank::MatrixView<const float> query(const Pass<T>& pass) const {
        return pass.input(query_);
    }
    template <lowrank::Scalar T>
    [[nodiscard]] lowrank::MatrixView<const float> key(const Pass<T>& pass) const {
        return pass.input(key_);
    }
    template <lowrank::Scalar T>
    [[nodiscard]] lowrank::MatrixView<const float> value(const Pass<T>& pass) const {
        return pass.input(value_);
    }

private:
    static constexpr std::int64_t kBlock = Attention<float>::kQueryBlock;

    template <lowrank::Scalar T>
    void mix_back(const Pass<T>& pass, const BackwardKernels& kernels, const KvCache& cache,
                  lowrank::MatrixView<const float> attended) {
        std::atomic<std::int64_t> next = 0;
        // A task for each thread, so that each has its row of the scratch memory.
        pass.context.parallel_for(std::min<std::int64_t>(pass.context.threads(), heads_), [&](std::int64_t thread) {
            for (std::int64_t head = next++; head < heads_; head = next++) {
                // From the last block, which sees all keys and writes their sums whole.
                for (std::int64_t first = (pass.rows - 1) / kBlock * kBlock; first >= 0; first -= kBlock) {
                    mix_block_back(pass, kernels, cache, attended, head, first, scratch_.row(thread));
                }
            }
        });
    }

    template <lowrank::Scalar T>
    void mix_block_back(const Pass<T>& pass, const BackwardKernels& kernels, const KvCache& cache,
                        lowrank::MatrixView<const float> attended, std::int64_t head, std::int64_t first,
                        float* scratch) {
        using lowrank::cpu::Transpose;
        const lowrank::cpu::Context one = pass.context.serial();
        const std::int64_t rows = std::min(kBlock, pass.rows - first);
        const std::int64_t seen = first + rows;
        const std::int64_t at = head * head_size_;
        const std::int64_t kv_head = head / (heads_ / kv_heads_);
        const float beta = seen == pass.rows ? 0.0F : 1.0F;
        const auto queries = pass.input(pass.at.query).block(first, at, rows, head_size_);
        const auto gradient = attended.block(first, at, rows, head_size_);
        const lowrank::MatrixView<float> p(scratch, rows, seen);
        const lowrank::MatrixView<float> s(scratch + rows * seen, rows, seen);
        gemm(one, scale_, queries, Transpose::no, cache.keys(kv_head, seen), Transpose::yes, 0.0F, p);
        gemm(one, 1.0F, gradient, Transpose::no, cache.values(kv_head, seen), Transpose::yes, 0.0F, s);
        for (std::int64_t row = 0; row < rows; ++row) {
            const std::int64_t own = first + row + 1;
            pass.kernels.softmax(p.row(row), own);
            const float mean = kernels.dot(gradient.row(row), pass.at.attended.row(first + row) + at, head_size_);
            kernels.softmax(p.row(row), mean, scale_, own, s.row(row));
            std::fill(p.row(row) + own, p.row(row) + seen, 0.0F);
            std::fill(s.row(row) + own, s.row(row) + seen, 0.0F);
        }
        gemm(one, 1.0F, p, Transpose::yes, gradient, Transpose::no, beta,
             head_values_.view().block(0, at, seen, head_size_));
        gemm(one, 1.0F, s, Transpose::yes, queries, Transpose::no, beta,
             head_keys_.view().block(0, at, seen, head_size_));
        gemm(one, 1.0F, s, Transpose::no, cache.keys(kv_head, seen), Transpose::no, 0.0F,
             query_.view().block(first, at, rows, head_size_));
    }

    /// Over the heads that share keys and values.
    template <lowrank::Scalar T>
    void add_up(const Pass<T>& pass) {
        const std::int64_t group = heads_ / kv_heads_ * head_size_;
        pass.each_row([&](std::int64_t row) {
            const auto add_heads = [&](const float* heads, float* sums) {
                for (std::int64_t h = 0; h < kv_heads_; ++h) {
                    std::copy_n(heads + h * group, head_size_, sums + h * head_size_);
                    for (std::int64_t i = head_size_; i < group; i += head_size_) {
                        pass.kernels.add(sums + h * head_size_, heads + h * group + i, head_size_);
                    }
                }
            };
            add_heads(head_keys_.row(row), key_.row(row));
            add_heads(head_values_.row(row), value_.row(row));
        });
    }

    /// Through the rotation and the heads' norms.
    template <lowrank::Scalar T>
    void place_back(const Pass<T>& pass, const BackwardKernels& kernels, const Attention<T>& attention,
                    const Rope& rope) {
        if (!attention.query_norms().empty()) attention.project(pass);  // the norms' inputs
        pass.each_row([&](std::int64_t row) {
            const auto turn = [&](const float* x, float* gradient, std::int64_t count, std::span<const Norm> norms) {
                for (std::int64_t h = 0; h < count; ++h, x += head_size_, gradient += head_size_) {
                    rope.rotate_back(gradient, row);
                    if (!norms.empty()) norm_backward(kernels, norms[static_cast<std::size_t>(h)], x, gradient);
                }
            };
            turn(pass.at.query.row(row), query_.row(row), heads_, attention.query_norms());
            turn(pass.at.key.row(row), key_.row(row), kv_heads_, attention.key_norms());
        });
    }

    std::int64_t heads_, kv_heads_, head_size_;
    float scale_;
    lowrank::Matrix<float> query_, key_, value_;
    lowrank::Matrix<float> head_keys_, head_values_;  ///< the same of each head on its own
    lowrank::Matrix<float> scratch_;                  ///< a row for each thread
};

}  // namespace engine
