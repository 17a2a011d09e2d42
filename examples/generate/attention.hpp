// generate - causal attention with grouped queries, its cache of keys and values, and the products for many rows.
// SPDX-License-Identifier: MIT
//
// A step for each name in `forward`; each writes a buffer of its own in the activations.
#pragma once

#include "activations.hpp"
#include "config.hpp"
#include "norm.hpp"
#include "rope.hpp"
#include "weights.hpp"

#include <lowrank/cpu/gemm.hpp>
#include <lowrank/linear_group.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace engine {

/// Keys and values of one block for up to `capacity` positions. Each head's lie one after the other.
class KvCache {
public:
    KvCache(const ModelConfig& config, std::int64_t capacity)
        : capacity_(capacity),
          keys_(config.kv_heads * capacity, config.head_size),
          values_(config.kv_heads * capacity, config.head_size) {}

    [[nodiscard]] float* key(std::int64_t head, std::int64_t position) {
        return keys_.row(head * capacity_ + position);
    }
    [[nodiscard]] float* value(std::int64_t head, std::int64_t position) {
        return values_.row(head * capacity_ + position);
    }
    /// Those of positions [0, count).
    [[nodiscard]] lowrank::MatrixView<const float> keys(std::int64_t head, std::int64_t count) const {
        return {keys_.row(head * capacity_), count, keys_.cols()};
    }
    [[nodiscard]] lowrank::MatrixView<const float> values(std::int64_t head, std::int64_t count) const {
        return {values_.row(head * capacity_), count, values_.cols()};
    }

private:
    std::int64_t capacity_;
    lowrank::Matrix<float> keys_;
    lowrank::Matrix<float> values_;
};

template <lowrank::Scalar T>
class Attention {
public:
    static constexpr std::int64_t kQueryBlock = 64;  ///< rows of queries that one task handles

    static Attention load(const lowrank::ModelFolder& model, const std::string& module, const ModelConfig& config) {
        const auto linear = [&](const char* name, std::int64_t d_in, std::int64_t d_out, bool biased) {
            return load_linear<T>(model, module + name, d_in, d_out, biased);
        };
        std::vector<AnyLinear<T>> qkv;
        qkv.push_back(linear(".q_proj", config.hidden, config.query_size(), config.qkv_bias));
        qkv.push_back(linear(".k_proj", config.hidden, config.kv_size(), config.qkv_bias));
        qkv.push_back(linear(".v_proj", config.hidden, config.kv_size(), config.qkv_bias));
        AnyLinear<T> output = linear(".o_proj", config.query_size(), config.hidden, config.output_bias);
        Attention attention(std::move(qkv), std::move(output), config);
        if (config.head_norms) {
            attention.query_norms_ = head_norms(model, module + ".q_layernorm", config, config.heads);
            attention.key_norms_ = head_norms(model, module + ".k_layernorm", config, config.kv_heads);
        }
        return attention;
    }

    /// at.branch = attention(at.attention_input).
    void forward(const Pass<T>& pass, const Rope& rope, KvCache& cache) const {
        mix(pass, rope, cache);
        output(pass);
    }

    /// at.output_input, the mixtures of values, of at.attention_input.
    void mix(const Pass<T>& pass, const Rope& rope, KvCache& cache) const {
        project(pass);
        place(pass, rope);
        remember(pass, cache);
        attend(pass, cache);
    }

    /// at.query, at.key and at.value as the layers make them, without norms and rotation.
    void project(const Pass<T>& pass) const {
        const std::array results = {pass.used(pass.at.query), pass.used(pass.at.key), pass.used(pass.at.value)};
        qkv_.forward(pass.context, pass.input(pass.at.attention_input), std::span(results), pass.workspace);
    }

    /// at.branch, of at.output_input.
    void output(const Pass<T>& pass) const {
        const std::array results = {pass.used(pass.at.branch)};
        o_proj_.forward(pass.context, pass.input(pass.at.output_input), std::span(results), pass.workspace);
    }

    /// Other layers of the same shapes: q, k and v; o.
    void set_qkv(std::vector<AnyLinear<T>> layers) { qkv_ = lowrank::LinearGroup<T>(std::move(layers)); }
    void set_output(AnyLinear<T> layer) { o_proj_ = lowrank::LinearGroup<T>(std::move(layer)); }

    /// One for each head, or none.
    [[nodiscard]] std::span<const Norm> query_norms() const { return query_norms_; }
    [[nodiscard]] std::span<const Norm> key_norms() const { return key_norms_; }

    template <class F>
    void each_linear(F&& visit) const {
        visit("q_proj", qkv_.layers()[0]);
        visit("k_proj", qkv_.layers()[1]);
        visit("v_proj", qkv_.layers()[2]);
        visit("o_proj", o_proj_.layers()[0]);
    }
    /// Calls visit(group) for the layers of each input.
    template <class F>
    void each_group(F&& visit) const {
        visit(qkv_);
        visit(o_proj_);
    }
    [[nodiscard]] std::int64_t norm_parameters() const {
        std::int64_t count = 0;
        for (const Norm& norm : query_norms_) count += norm.parameters();
        for (const Norm& norm : key_norms_) count += norm.parameters();
        return count;
    }

private:
    Attention(std::vector<AnyLinear<T>> qkv, AnyLinear<T> output, const ModelConfig& config)
        : qkv_(std::move(qkv)),
          o_proj_(std::move(output)),
          heads_(config.heads),
          kv_heads_(config.kv_heads),
          head_size_(config.head_size),
          scale_(1 / std::sqrt(static_cast<float>(config.head_size))) {}

    static std::vector<Norm> head_norms(const lowrank::ModelFolder& model, const std::string& module,
                                        const ModelConfig& config, std::int64_t heads) {
        std::vector<Norm> norms;
        for (std::int64_t head = 0; head < heads; ++head) {
            const std::string name = module + ".norms." + std::to_string(head);
            norms.push_back(Norm::load(model, name, config, config.head_size, false));
        }
        return norms;
    }

    /// The heads' norms, then the rotation by position.
    void place(const Pass<T>& pass, const Rope& rope) const {
        const Kernels<float>& kernels = pass.float_kernels;
        pass.each_row([&](std::int64_t row) {
            const auto turn = [&](float* heads, std::int64_t count, const std::vector<Norm>& norms) {
                for (std::int64_t h = 0; h < count; ++h) {
                    float* head = heads + h * head_size_;
                    if (!norms.empty()) norms[static_cast<std::size_t>(h)].apply(kernels, head, head);
                    rope.rotate(head, pass.position + row);
                }
            };
            turn(pass.at.query.row(row), heads_, query_norms_);
            turn(pass.at.key.row(row), kv_heads_, key_norms_);
        });
    }

    void remember(const Pass<T>& pass, KvCache& cache) const {
        for (std::int64_t row = 0; row < pass.rows; ++row) {
            for (std::int64_t h = 0; h < kv_heads_; ++h) {
                std::copy_n(pass.at.key.row(row) + h * head_size_, head_size_, cache.key(h, pass.position + row));
                std::copy_n(pass.at.value.row(row) + h * head_size_, head_size_, cache.value(h, pass.position + row));
            }
        }
    }

    /// at.output_input = the mixture of the values that each query asks for, in T.
    void attend(const Pass<T>& pass, const KvCache& cache) const {
        // Products of matrices pay from a few rows on; below, one query after the other reads the cache as fast.
        constexpr std::int64_t kFewRows = 8;
        const std::int64_t block = pass.rows < kFewRows ? 1 : kQueryBlock;
        const std::int64_t blocks = (pass.rows + block - 1) / block;
        const std::int64_t tasks = heads_ * blocks;
        std::atomic<std::int64_t> next = 0;
        // A task for each thread, so that each has its row of the scratch memory.
        pass.context.parallel_for(std::min<std::int64_t>(pass.context.threads(), tasks), [&](std::int64_t thread) {
            float* scratch = pass.scratch.row(thread);
            for (std::int64_t task = next++; task < tasks; task = next++) {
                // The last blocks, which see most keys, come first.
                const std::int64_t first = (blocks - 1 - task / heads_) * block;
                const std::int64_t head = task % heads_;
                if (block == 1) {
                    attend_one(pass, cache, head, first, scratch);
                } else {
                    attend_block(pass, cache, head, first, std::min(block, pass.rows - first), scratch);
                }
            }
        });
        pass.each_row([&](std::int64_t row) {
            pass.kernels.narrow(pass.at.attended.row(row), pass.at.attended.cols(), pass.at.output_input.row(row));
        });
    }

    void attend_one(const Pass<T>& pass, const KvCache& cache, std::int64_t head, std::int64_t row,
                    float* scores) const {
        const std::int64_t seen = pass.position + row + 1;
        const std::int64_t kv_head = head / (heads_ / kv_heads_);
        const float* query = pass.at.query.row(row) + head * head_size_;
        pass.kernels.scores(query, cache.keys(kv_head, seen).data(), seen, head_size_, scale_, scores);
        pass.kernels.softmax(scores, seen);
        pass.kernels.weighted_sum(scores, cache.values(kv_head, seen).data(), seen, head_size_,
                                  pass.at.attended.row(row) + head * head_size_);
    }

    void attend_block(const Pass<T>& pass, const KvCache& cache, std::int64_t head, std::int64_t first,
                      std::int64_t rows, float* scratch) const {
        using lowrank::cpu::Transpose;
        const lowrank::cpu::Context one = pass.context.serial();
        const std::int64_t seen = pass.position + first + rows;  // by the last row
        const std::int64_t kv_head = head / (heads_ / kv_heads_);
        const std::int64_t width = heads_ * head_size_;
        const lowrank::MatrixView<const float> queries(pass.at.query.row(first) + head * head_size_, rows, head_size_,
                                                       width);
        const lowrank::MatrixView<float> scores(scratch, rows, seen);
        gemm(one, scale_, queries, Transpose::no, cache.keys(kv_head, seen), Transpose::yes, 0.0F, scores);
        for (std::int64_t row = 0; row < rows; ++row) {
            const std::int64_t own = pass.position + first + row + 1;
            pass.kernels.softmax(scores.row(row), own);
            std::fill(scores.row(row) + own, scores.row(row) + seen, 0.0F);
        }
        const lowrank::MatrixView<float> mixtures(pass.at.attended.row(first) + head * head_size_, rows, head_size_,
                                                  width);
        gemm(one, 1.0F, scores, Transpose::no, cache.values(kv_head, seen), Transpose::no, 0.0F, mixtures);
    }

    lowrank::LinearGroup<T> qkv_;
    lowrank::LinearGroup<T> o_proj_;
    std::vector<Norm> query_norms_, key_norms_;  // one for each head, or none
    std::int64_t heads_, kv_heads_, head_size_;
    float scale_;
};

}  // namespace engine
