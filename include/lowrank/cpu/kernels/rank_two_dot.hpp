// lowrank - the kernel of the tridiagonalisation on each level.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/isa.hpp>
#include <lowrank/cpu/kernels/simd_avx2.hpp>
#include <lowrank/cpu/kernels/simd_avx512.hpp>
#include <lowrank/cpu/kernels/simd_portable.hpp>

#include <cstdint>
#include <type_traits>

namespace lowrank::cpu::detail {

// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a file to include
#define LOWRANK_KERNELS <lowrank/cpu/kernels/rank_two_dot.inl>
#include <lowrank/cpu/kernels/on_each_level.inl>
#undef LOWRANK_KERNELS

template <class T>
auto rank_two_dot_for(Isa isa) {
    constexpr bool kFloat = sizeof(T) == sizeof(float);
    using Function = T (*)(std::int64_t, T*, T, T, const T*, const T*, const T*);
#if LOWRANK_X86_KERNELS
    if (isa >= Isa::avx512) {
        return Function(avx512::rank_two_dot<std::conditional_t<kFloat, avx512::Float, avx512::Double>>);
    }
    if (isa == Isa::avx2) {
        return Function(avx2::rank_two_dot<std::conditional_t<kFloat, avx2::Float, avx2::Double>>);
    }
#endif
    (void)isa;
    return Function(portable::rank_two_dot<std::conditional_t<kFloat, portable::Float, portable::Double>>);
}

}  // namespace lowrank::cpu::detail
