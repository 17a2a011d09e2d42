// lowrank - how the forward path blocks its two products, and what memory that takes.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/forward_kernels.hpp>
#include <lowrank/cpu/kernels/round_up.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace lowrank::cpu::detail {

// Panels in a chunk: a second-level cache of 256 KiB holds their part of the result.
inline constexpr std::int64_t kForwardChunkPanels = 16;

// Blocks of rows in flight: one is copied, one is in the first product, one in the second.
inline constexpr std::int64_t kForwardSlots = 3;

// From so many rows on, X W1 is rounded to bf16 where that makes the second product a dot product. Below, memory is
// what a product waits for, whatever it computes with: a core of Zen 4 gets a cache line of weights every 14 cycles,
// and 4 rows in float take it 10 (5 rows of 2560 x 6912 r 512: 473 us in float, 323 rounded).
inline constexpr std::int64_t kRoundedFromRows = 5;

// Rows so many bytes apart fall into the same places of a first-level cache: of 14 rows the kernels would find hardly
// one there again. Such rows are copied. (Zen 5, whose sets hold 12 lines: 6 % of the kernels' rate; others hold 8.)
inline constexpr std::int64_t kAliasingBytes = 4096;

template <class T>
bool aliases(MatrixView<T> rows) {
    return rows.leading_dimension() * static_cast<std::int64_t>(sizeof(T)) % kAliasingBytes == 0;
}

/// One of the products: its kernels, and how the rows that they take lie in memory where they are not X's own: in the
/// order of the inner dimension, an entry being an element or a pair of bf16.
template <class T>
struct ForwardProduct {
    using C = compute_t<T>;

    ForwardKernels<C> kernels;
    std::int64_t entry_bytes;
    std::int64_t step_entries;  ///< of one step of the weights

    explicit ForwardProduct(const ForwardKernels<C>& chosen)
        : kernels(chosen),
          entry_bytes(chosen.pairs ? 4 : static_cast<std::int64_t>(sizeof(C))),
          step_entries(chosen.pairs ? 1 : kStoredPerStep<T>) {}

    [[nodiscard]] std::int64_t steps(std::int64_t depth) const { return ceil_div(depth, kStoredPerStep<T>); }
    [[nodiscard]] std::int64_t blocks(std::int64_t depth) const {
        return std::max<std::int64_t>(1, ceil_div(steps(depth) * step_entries, kernels.block_entries));
    }
    /// Of one block but the last, which may have less.
    [[nodiscard]] std::int64_t block_steps(std::int64_t depth) const {
        return round_up(ceil_div(steps(depth), blocks(depth)), kMaxForwardChains);
    }
    [[nodiscard]] std::int64_t step_bytes() const { return step_entries * entry_bytes; }
    /// From one row to the next: whole panels of results fit in, and it is an odd number of cache lines, so that rows
    /// do not contend for the same places of the caches.
    [[nodiscard]] std::int64_t row_bytes(std::int64_t depth) const {
        return (ceil_div(steps(depth) * step_bytes(), kLineBytes) | 1) * kLineBytes;
    }
    /// Whether the kernels read rows of X where they are.
    [[nodiscard]] bool reads(MatrixView<const T> x) const {
        const bool same = kernels.pairs ? x.cols() % 2 == 0 : std::is_same_v<T, C>;
        return same && !aliases(x);
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
          stride_(ceil_div(kStepBytes, parts_)),
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
    std::atomic<std::int64_t> copied;
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
    std::int64_t x_bytes;       ///< of one slot of copied rows of X
    std::int64_t middle_bytes;  ///< of one slot of intermediates, all members together
    std::int64_t scratch_bytes;
    std::int64_t x_offset, middle_offset, scratch_offset, total;

    ForwardLayout(const Context& context, std::int64_t rows, std::int64_t d_in, std::span<const std::int64_t> ranks) {
        const ForwardProduct<T> first = first_product<T>(context);
        block_rows = first.kernels.block_tiles * first.kernels.main().rows;
        blocks = ceil_div(rows, block_rows);
        slots = std::min(blocks, kForwardSlots);
        padded = std::min(round_up(rows, kMaxForwardRows), block_rows + kMaxForwardRows) + kMaxForwardRows;
        x_bytes = padded * first.row_bytes(d_in);
        middle_bytes = 0;
        for (const std::int64_t rank : ranks) middle_bytes += member_bytes(rank);
        scratch_bytes = padded * kForwardChunkPanels * kLineBytes;
        x_offset = round_up(blocks * static_cast<std::int64_t>(sizeof(ForwardProgress)), kLineBytes);
        middle_offset = x_offset + slots * x_bytes;
        scratch_offset = middle_offset + slots * middle_bytes;
        total = scratch_offset + context.threads() * scratch_bytes + kLineBytes;  // to align the first of them
    }

    /// Of one member's intermediate, in C or in pairs of bf16, which take half of it.
    [[nodiscard]] std::int64_t member_bytes(std::int64_t rank) const {
        return padded * ForwardProduct<T>(forward_kernels_for<T>(Isa::portable)).row_bytes(rank);
    }
};

}  // namespace lowrank::cpu::detail
