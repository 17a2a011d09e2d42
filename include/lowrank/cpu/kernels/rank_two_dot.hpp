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

/// The kernel for four rows, which load what they share once, and for one.
template <class T>
struct RankTwoDot {
    static constexpr std::int64_t kRows = 4;
    using Function = void (*)(std::int64_t, T*, std::int64_t, const T*, const T*, const T*, const T*, const T*, T*);
    Function rows = nullptr;
    Function row = nullptr;
};

template <class T>
RankTwoDot<T> rank_two_dot_for(Isa isa) {
    constexpr bool kFloat = sizeof(T) == sizeof(float);
#if LOWRANK_X86_KERNELS
    if (isa >= Isa::avx512) {
        using V = std::conditional_t<kFloat, avx512::Float, avx512::Double>;
        return {avx512::rank_two_dot<V, RankTwoDot<T>::kRows>, avx512::rank_two_dot<V, 1>};
    }
    if (isa == Isa::avx2) {
        using V = std::conditional_t<kFloat, avx2::Float, avx2::Double>;
        return {avx2::rank_two_dot<V, RankTwoDot<T>::kRows>, avx2::rank_two_dot<V, 1>};
    }
#endif
    (void)isa;
    using V = std::conditional_t<kFloat, portable::Float, portable::Double>;
    return {portable::rank_two_dot<V, RankTwoDot<T>::kRows>, portable::rank_two_dot<V, 1>};
}

}  // namespace lowrank::cpu::detail
