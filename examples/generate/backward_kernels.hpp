// generate - the loops of the backward pass between its products, compiled for several instruction sets as kernels.hpp.
// SPDX-License-Identifier: MIT
//
// "The gradient at z" is that of the loss with respect to z.
#pragma once

#include "kernels.hpp"

#include <cmath>
#include <cstdint>

namespace engine {

/// Functions of one level.
struct BackwardKernels {
    float (*dot)(const float* a, const float* b, std::int64_t count);
    /// From the gradient at silu(gate) * up: gate becomes the gradient at gate, up that at up.
    void (*gated_silu)(const float* gradient, float* gate, float* up, std::int64_t count);
    /// From the gradient at softmax(s) = p: the gradient at s, times `factor`, in its place. `mean` is p . gradient.
    void (*softmax)(const float* p, float mean, float factor, std::int64_t count, float* gradient);
    /// From the gradient at the norm of x: the gradient at x, in its place.
    void (*rms_norm)(const float* x, const float* weight, float epsilon, std::int64_t count, float* gradient);
    void (*layer_norm)(const float* x, const float* weight, float epsilon, std::int64_t count, float* gradient);
};

namespace detail {
// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a file to include
#define LOWRANK_KERNELS <backward_kernels.inl>
#include <lowrank/cpu/kernels/on_each_level.inl>
#undef LOWRANK_KERNELS
}  // namespace detail

inline BackwardKernels backward_kernels_for(lowrank::cpu::Isa isa) {
#if LOWRANK_X86_KERNELS
    if (isa >= lowrank::cpu::Isa::avx512) return detail::avx512::backward_kernels();
    if (isa == lowrank::cpu::Isa::avx2) return detail::avx2::backward_kernels();
#endif
    (void)isa;
    return detail::portable::backward_kernels();
}

}  // namespace engine
