// generate - the loops between the linear layers, compiled for several instruction sets and chosen at run time.
// SPDX-License-Identifier: MIT
//
// They are plain loops that the compiler vectorises: kernels.inl holds them once, and is compiled for each level as the
// library's own kernels are, so that the program is fast without -march.
#pragma once

#include <lowrank/cpu/isa.hpp>
#include <lowrank/cpu/kernels/target.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace engine {

/// Functions of one level; T is the type that linear layers take.
template <lowrank::Scalar T>
struct Kernels {
    /// scores[i] = scale * (query . keys[i]) for `count` keys of `size` numbers, one after the other.
    void (*scores)(const float* query, const float* keys, std::int64_t count, std::int64_t size, float scale,
                   float* scores);
    /// out = sum of weights[i] * values[i], `count` values of `size` numbers, one after the other.
    void (*weighted_sum)(const float* weights, const float* values, std::int64_t count, std::int64_t size, float* out);
    /// x becomes exp(x) / sum of exp(x).
    void (*softmax)(float* x, std::int64_t count);
    /// log(sum of exp(x)).
    float (*log_sum_exp)(const float* x, std::int64_t count);
    /// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)).
    void (*gated_silu)(const float* gate, const float* up, std::int64_t count, T* out);
    /// out = x / sqrt(mean(x^2) + epsilon) * weight.
    void (*rms_norm)(const float* x, const float* weight, float epsilon, std::int64_t count, T* out);
    /// out = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias; no bias if it is null.
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon, std::int64_t count,
                       T* out);
    /// x += y.
    void (*add)(float* x, const float* y, std::int64_t count);
    /// Rounds to T.
    void (*narrow)(const float* x, std::int64_t count, T* out);
};

namespace detail {

/// Partial sums that a reduction keeps apart, so that it can be vectorised without changing the order of any sum.
inline constexpr std::int64_t kLanes = 16;

// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a file to include
#define LOWRANK_KERNELS <kernels.inl>
#include <lowrank/cpu/kernels/on_each_level.inl>
#undef LOWRANK_KERNELS

}  // namespace detail

template <lowrank::Scalar T>
Kernels<T> kernels_for(lowrank::cpu::Isa isa) {
#if LOWRANK_X86_KERNELS
    if (isa >= lowrank::cpu::Isa::avx512) return detail::avx512::kernels<T>();
    if (isa == lowrank::cpu::Isa::avx2) return detail::avx2::kernels<T>();
#endif
    (void)isa;
    return detail::portable::kernels<T>();
}

}  // namespace engine
