// lowrank - the forward path's register kernels on each level, and their table.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/panel.hpp>
#include <lowrank/cpu/kernels/simd_avx2.hpp>
#include <lowrank/cpu/kernels/simd_avx512.hpp>
#include <lowrank/cpu/kernels/simd_portable.hpp>
#include <lowrank/scalar.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace lowrank::cpu::detail {

/// Elements of the inner dimension that one step of a PackedWeight holds: bf16 lies in pairs.
template <class T>
inline constexpr int kStoredPerStep = std::is_same_v<T, bf16> ? 2 : 1;

/// A kernel for `rows` rows of X: `wide` computes `panels` panels at once, `narrow` one, `rounded` as many as `wide`,
/// but stores them in the storage type.
template <class C>
struct ForwardTile {
    using Function = void (*)(std::int64_t, const std::byte*, std::int64_t, const void*, std::int64_t, const std::byte*,
                              std::int64_t, void*, std::int64_t, bool);
    int rows = 0;
    int panels = 1;
    Function wide = nullptr;
    Function narrow = nullptr;
    Function rounded = nullptr;  ///< only of AVX-512's tile for many rows: AVX2's lacks the registers
};

/// Which kernels multiply by weights of one type on one level.
template <class C>
struct ForwardKernels {
    std::array<ForwardTile<C>, 9> tiles;  ///< ascending in rows, and at last the one for many
    std::size_t count;
    std::int64_t block_tiles;    ///< of rows in a block
    std::int64_t block_entries;  ///< of the inner dimension in a block, at most
    bool pairs;                  ///< rows are read as pairs of bf16, else as C

    [[nodiscard]] const ForwardTile<C>& main() const { return tiles[count - 1]; }
    /// The smallest tile for few rows that holds `rows`, or the one for many.
    [[nodiscard]] const ForwardTile<C>& for_rows(std::int64_t rows) const {
        if (rows == main().rows) return main();
        for (const ForwardTile<C>& tile : tiles) {
            if (tile.rows >= rows) return tile;
        }
        return main();
    }
    /// Calls visit(first row, tile) for the tiles that `rows` rows take, of which the last may have more.
    template <class Visit>
    void for_tiles(std::int64_t rows, Visit&& visit) const {
        for (std::int64_t row = 0; row < rows;) {
            const ForwardTile<C>& tile = for_rows(rows - row);
            visit(row, tile);
            row += tile.rows;
        }
    }
    /// How many these are.
    [[nodiscard]] std::int64_t tiles_for(std::int64_t rows) const {
        std::int64_t count = 0;
        for_tiles(rows, [&](std::int64_t /*row*/, const ForwardTile<C>& /*tile*/) { ++count; });
        return count;
    }
};

/// The widest tile of any level.
inline constexpr int kMaxForwardRows = 16;
inline constexpr int kMaxForwardPanels = 2;
/// The most sums that one is split into.
inline constexpr int kMaxForwardChains = 8;

// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a file to include
#define LOWRANK_KERNELS <lowrank/cpu/kernels/forward_tile.inl>
#include <lowrank/cpu/kernels/on_each_level.inl>
#undef LOWRANK_KERNELS

// As in gemm_kernels.hpp the tiles fill the registers with accumulators. Few rows take one panel at a time, so that the
// weights are read from memory in one sequence, and split the sum to have 8 or more additions under way: the latency is
// 4 cycles, and two start in each. Rows that a tile has too many are computed all the same, so that there are many
// tiles of few rows: a core of Zen 4 gets a cache line of weights every 14 cycles, in which 14 rows of pairs can be
// multiplied. AVX2's tile for many rows takes four steps in a round of its loop: there the instructions that are not
// additions show where two threads share a core (Zen 3, float: 2 to 10 % less time so; bf16 alike).
//
// A block has so many rows that the weights, which every block reads again, take a small part of the memory bandwidth
// (6 of 60 GB/s with two AVX512-BF16 cores at full rate, 2 to 3 of 15 with AVX2), and so many entries of the inner
// dimension that they stay in the second-level cache beside the sums: 336 KiB of 1 MiB with AVX-512, else 162 KiB.
// Fewer than 256 entries, and the reading and writing of the sums shows; more than 512, and the panels leave the
// first-level cache of AVX2's tile. In two blocks a rank of 512 took 7 % longer (Zen 5, float, 2560 x 6912).
template <class T>
ForwardKernels<compute_t<T>> forward_kernels_for(Isa isa) {
    using std::is_same_v;
#if LOWRANK_X86_KERNELS
    if (isa >= Isa::avx512) {
        using V =
            std::conditional_t<is_same_v<T, float>, avx512::Float,
                               std::conditional_t<is_same_v<T, double>, avx512::Double,
                                                  std::conditional_t<is_same_v<T, bf16>, avx512::Bf16, avx512::F16>>>;
        return avx512::forward_table<V>();
    }
    if (isa == Isa::avx2) {
        using V = std::conditional_t<is_same_v<T, float>, avx2::Float,
                                     std::conditional_t<is_same_v<T, double>, avx2::Double,
                                                        std::conditional_t<is_same_v<T, bf16>, avx2::Bf16, avx2::F16>>>;
        return {.tiles = {avx2::one_panel<V, 1, 4>(), avx2::one_panel<V, 2, 2>(), avx2::one_panel<V, 4, 1>(),
                          avx2::one_panel<V, 6, 1, 4>()},
                .count = 4,
                .block_tiles = 18,
                .block_entries = 1536 / sizeof(compute_t<T>),
                .pairs = false};
    }
#endif
    (void)isa;
    using V =
        std::conditional_t<is_same_v<T, float>, portable::Float,
                           std::conditional_t<is_same_v<T, double>, portable::Double,
                                              std::conditional_t<is_same_v<T, bf16>, portable::Bf16, portable::F16>>>;
    return {.tiles = {portable::one_panel<V, 1, 2>(), portable::one_panel<V, 3, 1>()},
            .count = 2,
            .block_tiles = 36,
            .block_entries = 1536 / sizeof(compute_t<T>),
            .pairs = false};
}

#if LOWRANK_X86_KERNELS
/// The same for bf16 rows in pairs, Isa::avx512_bf16 only.
inline ForwardKernels<float> forward_dot_kernels() {
    return avx512_bf16::forward_table<avx512_bf16::Dot>();
}
#endif

/// Stores rows of results as Out.
template <class C, class Out>
using StoreRows = void (*)(const C*, std::int64_t, const C*, std::int64_t, std::int64_t, Out*, std::int64_t);

template <class C, class Out>
StoreRows<C, Out> store_rows_for(Isa isa) {
    constexpr bool kFloat = std::is_same_v<C, float>;
#if LOWRANK_X86_KERNELS
    if constexpr (kFloat && std::is_same_v<Out, bf16>) {
        if (isa >= Isa::avx512_bf16) return avx512_bf16::store_rows<avx512_bf16::Float, bf16>;
    }
    if (isa >= Isa::avx512) {
        return avx512::store_rows<std::conditional_t<kFloat, avx512::Float, avx512::Double>, Out>;
    }
    if (isa == Isa::avx2) return avx2::store_rows<std::conditional_t<kFloat, avx2::Float, avx2::Double>, Out>;
#endif
    (void)isa;
    return portable::store_rows<std::conditional_t<kFloat, portable::Float, portable::Double>, Out>;
}

}  // namespace lowrank::cpu::detail
