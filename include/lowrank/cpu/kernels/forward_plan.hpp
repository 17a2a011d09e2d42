// lowrank - how the forward path blocks its two products, and what memory that takes.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/forward_kernels.hpp>
#include <lowrank/cpu/kernels/pack.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace lowrank::cpu::detail {

// Entries of the inner dimension in a block: the reasons of kBlockSteps in gemm_run.hpp, and a multiple of every
// panel's width, so that the panels of X W1 fall into one block each.
inline constexpr std::int64_t kForwardBlockEntries = 384;

// Rows of a block, at most: enough that the weights, which every block of rows reads again, take a small part of the
// memory bandwidth (9 of 60 GB/s with two AVX512-BF16 cores at full rate, 2 to 3 of 15 with AVX2), and a block of the
// inner dimension few enough, 168 KiB of float, for a second-level cache of 256 KiB or more.
inline constexpr std::int64_t kForwardBlockRows = 112;

// Panels in a chunk: a second-level cache of 256 KiB holds their part of the result.
inline constexpr std::int64_t kForwardChunkPanels = 16;

// Blocks of rows in flight: one is packed, one is in the first product, one in the second.
inline constexpr std::int64_t kForwardSlots = 3;

// From so many rows on, X W1 is rounded to bf16 where that makes the second product a dot product. Below, memory is
// what a product waits for, whatever it computes with (measured on Zen 5: 8.4 cycles a cache line and core, in which 16
// FMA finish: 8 rows of a pair).
inline constexpr std::int64_t kRoundedFromRows = 9;

constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b * b;
}

/// One of the products: its kernels, and how the rows that they take are packed. A region holds one tile's rows: block
/// after block of kForwardBlockEntries entries of the inner dimension.
template <class T>
struct ForwardProduct {
    using C = compute_t<T>;

    ForwardKernels<C> kernels;
    std::int64_t entry_bytes;
    std::int64_t step_entries;  ///< of one step of the weights
    std::int64_t block_steps;

    explicit ForwardProduct(const ForwardKernels<C>& chosen)
        : kernels(chosen),
          entry_bytes(chosen.pairs ? 4 : static_cast<std::int64_t>(sizeof(C))),
          step_entries(chosen.pairs ? 1 : kStoredPerStep<T>),
          block_steps(kForwardBlockEntries / step_entries) {}

    [[nodiscard]] std::int64_t steps(std::int64_t depth) const {
        return (depth + kStoredPerStep<T> - 1) / kStoredPerStep<T>;
    }
    [[nodiscard]] std::int64_t blocks(std::int64_t depth) const {
        return std::max<std::int64_t>(1, (steps(depth) + block_steps - 1) / block_steps);
    }
    [[nodiscard]] std::int64_t block_bytes(std::int64_t depth, std::int64_t rows) const {
        const std::int64_t entries = std::min(steps(depth), block_steps) * step_entries;
        return round_up((entries * rows + kPackSlack) * entry_bytes, 64);
    }
    /// Bytes of a tile's region.
    [[nodiscard]] std::int64_t tile_bytes(std::int64_t depth, std::int64_t rows) const {
        return blocks(depth) * block_bytes(depth, rows);
    }
    /// Row tiles in a block of rows.
    [[nodiscard]] std::int64_t block_tiles() const { return kForwardBlockRows / kernels.main().rows; }
    /// No less than the regions of `rows` rows together, however they are cut into tiles.
    [[nodiscard]] std::int64_t bound_bytes(std::int64_t depth, std::int64_t rows) const {
        return blocks(depth) * (block_bytes(depth, rows) + block_tiles() * (kPackSlack * entry_bytes + 64));
    }
};

template <class T>
ForwardProduct<T> first_product(const Context& context) {
#if LOWRANK_X86_KERNELS
    if constexpr (std::is_same_v<T, bf16>) {
        if (context.isa() >= Isa::avx512_bf16) return ForwardProduct<T>(forward_dot_kernels());
    }
#endif
    return ForwardProduct<T>(forward_kernels_for<T>(context.isa()));
}

template <class T>
ForwardProduct<T> second_product(const Context& context, std::int64_t rows) {
    if (rows >= kRoundedFromRows && context.intermediate() == Intermediate::automatic) return first_product<T>(context);
    return ForwardProduct<T>(forward_kernels_for<T>(context.isa()));
}

/// What each of a block's row tiles fetches while it computes: its part of the weights that come next. One tile alone
/// would ask for all of them faster than memory answers, and wait (Zen 3, float, one core: 85 GFLOP/s so, 91 in parts).
template <class T>
class ForwardAhead {
public:
    /// `steps` steps of `panels` panels, the first at `next`, `panel_size` elements apart.
    ForwardAhead(const T* next, std::int64_t panel_size, std::int64_t panels, std::int64_t steps, std::int64_t tiles)
        : next_(reinterpret_cast<const std::byte*>(next)),
          panel_bytes_(panel_size * static_cast<std::int64_t>(sizeof(T))),
          panels_(panels),
          parts_(std::max<std::int64_t>(1, tiles / panels)),
          stride_((kStepBytes + parts_ - 1) / parts_),
          part_bytes_(stride_ * steps) {}

    /// Bytes from what one step fetches to what the next does.
    [[nodiscard]] std::int64_t stride() const { return stride_; }
    /// Where the tile of that number begins.
    [[nodiscard]] const std::byte* of(std::int64_t tile) const {
        if (tile >= parts_ * panels_) return next_;
        return next_ + tile % panels_ * panel_bytes_ + tile / panels_ * part_bytes_;
    }

private:
    static constexpr std::int64_t kStepBytes =
        kPanelWidth<compute_t<T>> * kStoredPerStep<T> * static_cast<std::int64_t>(sizeof(T));
    const std::byte* next_;
    std::int64_t panel_bytes_, panels_, parts_, stride_, part_bytes_;
};

/// Progress of one block of rows: chunks done.
struct ForwardProgress {
    std::atomic<std::int64_t> packed;
    std::atomic<std::int64_t> first;
    std::atomic<std::int64_t> second;
};

/// Where in the workspace everything lies, for `rows` rows of d_in elements and intermediates of the given ranks. Every
/// size grows with `rows`, so that a workspace for many rows serves fewer.
template <class T>
struct ForwardLayout {
    using C = compute_t<T>;

    std::int64_t block_rows;
    std::int64_t padded;  ///< no less than the rows of a block's tiles together
    std::int64_t blocks;
    std::int64_t slots;
    std::int64_t x_bytes;       ///< of one slot of packed X
    std::int64_t middle_bytes;  ///< of one slot of intermediates, all members together
    std::int64_t scratch_bytes;
    std::int64_t x_offset, middle_offset, scratch_offset, total;

    ForwardLayout(const Context& context, std::int64_t rows, std::int64_t d_in, std::span<const std::int64_t> ranks) {
        const ForwardProduct<T> first = first_product<T>(context);
        block_rows = first.block_tiles() * first.kernels.main().rows;
        blocks = (rows + block_rows - 1) / block_rows;
        slots = std::min(blocks, kForwardSlots);
        padded = std::min(round_up(rows, kMaxForwardRows), block_rows + kMaxForwardRows) + kMaxForwardRows;
        x_bytes = first.bound_bytes(d_in, padded);
        middle_bytes = 0;
        for (const std::int64_t rank : ranks) middle_bytes += member_bytes(rank);
        scratch_bytes = padded * kForwardChunkPanels * 64;
        x_offset = round_up(blocks * static_cast<std::int64_t>(sizeof(ForwardProgress)), 64);
        middle_offset = x_offset + slots * x_bytes;
        scratch_offset = middle_offset + slots * middle_bytes;
        total = scratch_offset + context.threads() * scratch_bytes + 64;  // to align the first of them
    }

    /// Of one member's intermediate, in C or in pairs of bf16, which take half of it.
    [[nodiscard]] std::int64_t member_bytes(std::int64_t rank) const {
        return ForwardProduct<T>(forward_kernels_for<T>(Isa::portable)).bound_bytes(rank, padded);
    }
};

}  // namespace lowrank::cpu::detail
