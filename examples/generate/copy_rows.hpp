// generate - copies rows of activations on all threads: one alone took 3 % of the time of `compress --text`.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstdint>

namespace engine {

/// To the first rows of `to`, which are as long.
template <lowrank::Scalar T>
void copy_rows(const lowrank::cpu::Context& context, lowrank::MatrixView<const T> from, lowrank::MatrixView<T> to) {
    constexpr std::int64_t kRows = 32;  // of a task
    context.parallel_for((from.rows() + kRows - 1) / kRows, [&](std::int64_t task) {
        const std::int64_t end = std::min((task + 1) * kRows, from.rows());
        for (std::int64_t i = task * kRows; i < end; ++i) std::copy_n(from.row(i), from.cols(), to.row(i));
    });
}

}  // namespace engine
