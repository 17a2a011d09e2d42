// lowrank - the register kernels of the general product on each level, and their table.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/panel.hpp>
#include <lowrank/cpu/kernels/simd_avx2.hpp>
#include <lowrank/cpu/kernels/simd_avx512.hpp>
#include <lowrank/cpu/kernels/simd_portable.hpp>

#include <cstdint>
#include <type_traits>

namespace lowrank::cpu::detail {

/// Whether V computes with integers in the units of their lanes, which a step behind the last holds.
template <class V>
inline constexpr bool kInUnits = requires {
    typename V::Result;
};

// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a file to include
#define LOWRANK_KERNELS <lowrank/cpu/kernels/gemm_tile.inl>
#include <lowrank/cpu/kernels/on_each_level.inl>
#undef LOWRANK_KERNELS

/// The largest tile of any level.
inline constexpr int kMaxTileRows = 14;
inline constexpr int kMaxTilePanels = 2;

/// The tile of one level for operands of type Packed: `wide` computes rows x (panels * kPanelWidth), `narrow` one
/// panel of the same rows.
template <class Element, class Packed>
struct GemmTile {
    using Function = void (*)(std::int64_t, const Packed*, const Packed*, std::int64_t, Element, Element, Element*,
                              std::int64_t);
    int rows;
    int panels;
    int steps_behind;  ///< of a packed panel, behind those of the product: 1 where it holds the lanes' units
    Function wide;
    Function narrow;
};

// The tiles fill the registers with accumulators, less those for one row of b and the broadcast of a: 12 + 2 + 1 of
// AVX2's 16 registers, 28 + 2 + 1 of AVX-512's 32, 12 + ... of SSE2's 16 (b from memory).
template <class Element>
GemmTile<Element, Element> gemm_tile_for(Isa isa) {
    constexpr bool kFloat = sizeof(Element) == sizeof(float);
#if LOWRANK_X86_KERNELS
    if (isa >= Isa::avx512) {
        using V = std::conditional_t<kFloat, avx512::Float, avx512::Double>;
        return {14, 2, 0, avx512::gemm_tile<V, 14, 2>, avx512::gemm_tile<V, 14, 1>};
    }
    if (isa == Isa::avx2) {
        using V = std::conditional_t<kFloat, avx2::Float, avx2::Double>;
        return {6, 1, 0, avx2::gemm_tile<V, 6, 1>, avx2::gemm_tile<V, 6, 1>};
    }
#endif
    (void)isa;
    using V = std::conditional_t<kFloat, portable::Float, portable::Double>;
    return {3, 1, 0, portable::gemm_tile<V, 3, 1>, portable::gemm_tile<V, 3, 1>};
}

/// Whether a level multiplies integers in pairs faster than floats. AVX-512 alone does not: it has no such dot product,
/// and a product and a sum take what two products of floats take.
constexpr bool has_fixed_tile(Isa isa) {
    return isa == Isa::avx2 || isa >= Isa::avx512_vnni;
}

#if LOWRANK_X86_KERNELS
/// The same for integers in pairs.
inline GemmTile<float, avx2::Fixed::Packed> gemm_fixed_tile(Isa isa) {
    if (isa >= Isa::avx512_vnni) {
        using V = avx512_vnni::Fixed;
        return {14, 2, 1, avx512_vnni::gemm_tile<V, 14, 2>, avx512_vnni::gemm_tile<V, 14, 1>};
    }
    using V = avx2::Fixed;
    return {6, 1, 1, avx2::gemm_tile<V, 6, 1>, avx2::gemm_tile<V, 6, 1>};
}

/// The same for bf16 operands in pairs, Isa::avx512_bf16 only.
inline GemmTile<float, avx512_bf16::Bf16Pair> gemm_dot_tile() {
    using V = avx512_bf16::Dot;
    return {14, 2, 0, avx512_bf16::gemm_tile<V, 14, 2>, avx512_bf16::gemm_tile<V, 14, 1>};
}
#endif

}  // namespace lowrank::cpu::detail
