// generate - what one pass of some tokens through the model works on: buffers made once, and the rows in use.
// SPDX-License-Identifier: MIT
#pragma once

#include "config.hpp"
#include "kernels.hpp"

#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace engine {

/// Buffers for up to `rows` tokens; T is what linear layers read, everything else is float. Each step of a block has a
/// buffer of its own for its result.
template <lowrank::Scalar T>
struct Activations {
    Activations(const ModelConfig& config, std::int64_t rows)
        : x(rows, config.hidden),
          attention_input(rows, config.hidden),
          query(rows, config.query_size()),
          key(rows, config.kv_size()),
          value(rows, config.kv_size()),
          attended(rows, config.query_size()),
          output_input(rows, config.query_size()),
          branch(rows, config.hidden),
          mlp_input(rows, config.hidden),
          gate(rows, config.intermediate),
          up(rows, config.intermediate),
          down_input(rows, config.intermediate),
          head_input(rows, config.hidden) {}

    lowrank::Matrix<float> x;  ///< the residual stream
    lowrank::Matrix<T> attention_input;
    lowrank::Matrix<float> query, key, value;
    lowrank::Matrix<float> attended;  ///< the heads' mixtures of values, side by side
    lowrank::Matrix<T> output_input;  ///< the same in T
    lowrank::Matrix<float> branch;    ///< what attention or MLP adds to x
    lowrank::Matrix<T> mlp_input;
    lowrank::Matrix<float> gate, up;
    lowrank::Matrix<T> down_input;
    lowrank::Matrix<T> head_input;
};

/// One pass: rows `position`, `position + 1`, ... of a text, in the first `rows` rows of the activations.
template <lowrank::Scalar T>
struct Pass {
    const lowrank::cpu::Context& context;
    const Kernels<T>& kernels;
    const Kernels<float>& float_kernels;
    Activations<T>& at;
    std::span<std::byte> workspace;   ///< of the linear layers
    lowrank::Matrix<float>& scratch;  ///< of attention: a row for each thread
    std::int64_t position = 0;
    std::int64_t rows = 0;

    /// The rows in use.
    template <class E>
    [[nodiscard]] lowrank::MatrixView<E> used(lowrank::Matrix<E>& buffer) const {
        return {buffer.data(), rows, buffer.cols()};
    }
    template <class E>
    [[nodiscard]] lowrank::MatrixView<const E> input(const lowrank::Matrix<E>& buffer) const {
        return {buffer.data(), rows, buffer.cols()};
    }

    /// Calls body(row) for each row in use, on all threads where there are enough rows.
    template <class F>
    void each_row(F&& body) const {
        constexpr std::int64_t kRows = 16;  // of a task: more work than handing it to a thread costs
        context.parallel_for((rows + kRows - 1) / kRows, [&](std::int64_t task) {
            for (std::int64_t row = task * kRows; row < std::min((task + 1) * kRows, rows); ++row) body(row);
        });
    }
};

}  // namespace engine
