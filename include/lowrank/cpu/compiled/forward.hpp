// lowrank - the forward products that lowrank::compiled has compiled already.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/forward.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

/// `KIND` is `extern template` where these are announced, `template` where they are compiled.
// NOLINTBEGIN(bugprone-macro-parentheses): the arguments are types
#define LOWRANK_FORWARD(KIND, T, OUT)                                                                    \
    KIND void forward_layers(const Context&, MatrixView<const T>, std::span<const ForwardLayer<T, OUT>>, \
                             std::span<const std::int64_t>, std::span<std::byte>);
// NOLINTEND(bugprone-macro-parentheses)
#define LOWRANK_FORWARD_BYTES(KIND, T)                                                      \
    KIND std::size_t forward_workspace_bytes<T>(const Context&, std::int64_t, std::int64_t, \
                                                std::span<const std::int64_t>);
/// Of every type that a layer stores, results of that type and of the one that it computes in.
#define LOWRANK_FORWARDS(KIND)            \
    LOWRANK_FORWARD(KIND, float, float)   \
    LOWRANK_FORWARD(KIND, double, double) \
    LOWRANK_FORWARD(KIND, bf16, bf16)     \
    LOWRANK_FORWARD(KIND, bf16, float)    \
    LOWRANK_FORWARD(KIND, f16, f16)       \
    LOWRANK_FORWARD(KIND, f16, float)     \
    LOWRANK_FORWARD_BYTES(KIND, float)    \
    LOWRANK_FORWARD_BYTES(KIND, double)   \
    LOWRANK_FORWARD_BYTES(KIND, bf16)     \
    LOWRANK_FORWARD_BYTES(KIND, f16)

#ifdef LOWRANK_COMPILED
namespace lowrank::cpu {
LOWRANK_FORWARDS(extern template)
}  // namespace lowrank::cpu
#endif
