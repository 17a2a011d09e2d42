// lowrank - the operands of a general product: where they lie, how they are packed, and rows that stay packed.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/aligned_memory.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/isa.hpp>
#include <lowrank/cpu/kernels/gemm_kernels.hpp>
#include <lowrank/cpu/kernels/pack.hpp>
#include <lowrank/cpu/kernels/pack_fixed.hpp>
#include <lowrank/cpu/kernels/panel.hpp>
#include <lowrank/cpu/kernels/round_up.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace lowrank::cpu::detail {

// Steps of the inner dimension in a block. A panel of B (AVX-512: 16 lanes x 4 bytes x 384 = 24 KiB, two of them at
// work) and one of A (14 x 4 x 384 = 21 KiB) come from the second-level cache in turn; below 256 the reading and
// writing of C shows, above 512 the panels leave the first-level cache of AVX2's tile.
inline constexpr std::int64_t kBlockSteps = 384;

/// How PackedFrom packs: values of P as pack.hpp converts them.
template <class P>
struct AsValues {
    template <class S>
    static void pack(Isa isa, const PackSource<S>& source, P* to, int width) {
        pack_panel(isa, source, to, width);
    }
};

#if LOWRANK_X86_KERNELS
/// Or integers in units, whatever the level, which must have AVX2.
struct AsFixed {
    template <class S>
    static void pack(Isa /*isa*/, const PackSource<S>& source, std::uint32_t* to, int width) {
        avx2::pack_fixed_panel(source, to, width);
    }
};
#endif

/// A PackSource whose storage type and packing are known to its packer alone, so that GemmRun is compiled once for all
/// of them.
template <class P>
class PackedFrom {
public:
    template <class S, class As = AsValues<P>>
    explicit PackedFrom(const PackSource<S>& source, As /*as*/ = {})
        : source_{static_cast<const std::byte*>(static_cast<const void*>(source.data)),
                  source.stride * static_cast<std::int64_t>(sizeof(S)), source.lanes_contiguous, source.lanes,
                  source.depth},
          element_(sizeof(S)),
          pack_(&pack<S, As>) {}

    [[nodiscard]] std::int64_t lanes() const { return source_.lanes; }
    [[nodiscard]] std::int64_t depth() const { return source_.depth; }

    /// Packs `width` lanes from `lane` on, `depth` elements of the inner dimension from `k` on.
    void pack(Isa isa, std::int64_t lane, std::int64_t k, std::int64_t depth, P* to, int width) const {
        PackSource<std::byte> part = source_;
        part.data += source_.lanes_contiguous ? k * part.stride + lane * element_ : lane * part.stride + k * element_;
        part.lanes -= lane;
        part.depth = depth;
        pack_(isa, part, to, width);
    }

private:
    template <class S, class As>
    static void pack(Isa isa, const PackSource<std::byte>& part, P* to, int width) {
        const PackSource<S> source{static_cast<const S*>(static_cast<const void*>(part.data)),
                                   part.stride / static_cast<std::int64_t>(sizeof(S)), part.lanes_contiguous,
                                   part.lanes, part.depth};
        As::pack(isa, source, to, width);
    }

    PackSource<std::byte> source_;  ///< strides in bytes
    std::int64_t element_;
    void (*pack_)(Isa, const PackSource<std::byte>&, P*, int);
};

/// The rows of op(A), packed once for products with many B, of which each would pack them again: block after block of
/// the inner dimension, tile after tile.
template <class P>
class PackedRows {
public:
    PackedRows() = default;  ///< none
    template <class E>
    PackedRows(const Context& context, const GemmTile<E, P>& tile, int elements, const PackedFrom<P>& a)
        : rows_(tile.rows), tiles_(ceil_div(a.lanes(), rows_)) {
        const std::int64_t block_depth = kBlockSteps * elements;
        const std::int64_t blocks = ceil_div(a.depth(), block_depth);
        const std::int64_t steps = std::min(kBlockSteps, ceil_div(a.depth(), elements)) + tile.steps_behind;
        tile_size_ = ceil_div(rows_ * steps + kPackSlack, kPanelWidth<P>) * kPanelWidth<P>;
        packed_ = lowrank::detail::allocate_aligned<P>(static_cast<std::size_t>(blocks * tiles_ * tile_size_));
        context.parallel_for(tiles_, [&](std::int64_t t) {
            for (std::int64_t block = 0; block < blocks; ++block) {
                const std::int64_t k = block * block_depth;
                a.pack(context.isa(), t * rows_, k, std::min(block_depth, a.depth() - k), at(block, t),
                       static_cast<int>(rows_));
            }
        });
    }

    /// The tile that begins with `row`, of that block.
    [[nodiscard]] const P* tile(std::int64_t block, std::int64_t row) const { return at(block, row / rows_); }

private:
    [[nodiscard]] P* at(std::int64_t block, std::int64_t tile) const {
        return packed_.get() + (block * tiles_ + tile) * tile_size_;
    }

    std::int64_t rows_ = 0;   ///< of a tile
    std::int64_t tiles_ = 0;  ///< of a block
    std::int64_t tile_size_ = 0;
    lowrank::detail::AlignedArray<P> packed_;
};

}  // namespace lowrank::cpu::detail
