// lowrank - one forward at work: the order in which threads share it.
// SPDX-License-Identifier: MIT
//
// X is cut into blocks of rows. For each block X is packed, then come the chunks of the first product, whose results
// are packed as the rows of the second, then the chunks of the second, whose results are stored in Y with the bias. All
// of it happens in one parallel region, in the order of tickets as in gemm_run.hpp, with one block packed, one in the
// first and one in the second product at a time, so that in practice no thread waits. With a single block they wait at
// the two borders, and fetch their chunk's weights into the cache meanwhile. An element of Y is the same sum in the
// same order whoever computes it.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/forward_plan.hpp>
#include <lowrank/cpu/kernels/pack_rows.hpp>
#include <lowrank/cpu/kernels/wait.hpp>
#include <lowrank/cpu/packed_weight.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <type_traits>

namespace lowrank::cpu::detail {

/// One layer of those that share X: y = x first (dense) or (x first) second, and the bias, which may be null.
template <class T, class Out>
struct ForwardMember {
    const PackedWeight<T>* first;
    const PackedWeight<T>* second;  ///< null: a dense layer
    const compute_t<T>* bias;
    MatrixView<Out> y;
};

// Work below which another thread costs more than it brings: a region of OpenMP's takes 2 to 5 us to start.
inline constexpr double kForwardSerialOperations = 1e6;
inline constexpr double kForwardSerialBytes = 128 * 1024;

// Up to so many rows, chunks are shared out as those of few rows are.
inline constexpr std::int64_t kForwardGuidedRows = 64;

// The least that few rows read of the weights for one ticket: 1 us of one core's memory bandwidth.
inline constexpr std::int64_t kForwardChunkBytes = 32 * 1024;

// How far ahead of its use one tile alone fetches the weights. Measured on Zen 5, bf16, 16 rows of 2560 x 2560 r 384:
// 177 us without, 163, 141, 127, 128 us with 1, 2, 4, 8 KiB; one row: 78, 75, 76, 71, 71 us.
inline constexpr std::int64_t kForwardAheadBytes = 4096;

// Rows of a block that stay in the second-level cache whole, so that one panel after another can be finished.
inline constexpr std::int64_t kForwardResidentBytes = 256 * 1024;

template <class T, class Out>
class ForwardRun {
public:
    using C = compute_t<T>;
    using Member = ForwardMember<T, Out>;

    /// `workspace` as ForwardLayout wants it, X not empty in rows.
    ForwardRun(const Context& context, MatrixView<const T> x, std::span<const Member> members,
               const ForwardLayout<T>& layout, std::byte* workspace)
        : isa_(context.isa()),
          x_(x),
          members_(members),
          layout_(layout),
          first_(first_product<T>(context)),
          second_(second_product<T>(context, x.rows())),
          store_(store_rows_for<C, Out>(isa_)),
          memory_(workspace) {
        double weights = 0;
        for (const Member& member : members_) {
            weights += elements(*member.first) + (member.second == nullptr ? 0 : elements(*member.second));
        }
        const double work = std::max(2 * static_cast<double>(x.rows()) * weights / kForwardSerialOperations,
                                     weights * sizeof(T) / kForwardSerialBytes);
        workers_ =
            work < context.threads() ? std::max<std::int64_t>(1, static_cast<std::int64_t>(work)) : context.threads();
        first_chunks_ = chunks(false);
        second_chunks_ = chunks(true);
        for (std::int64_t block = 0; block < layout_.blocks; ++block) new (&progress(block)) ForwardProgress{};
        context.parallel_for(workers_, [this](std::int64_t worker) { work_on(worker); });
    }

private:
    static double elements(const PackedWeight<T>& w) {
        return static_cast<double>(w.rows()) * static_cast<double>(w.cols());
    }

    [[nodiscard]] ForwardProgress& progress(std::int64_t block) const {
        return reinterpret_cast<ForwardProgress*>(memory_)[block];
    }
    [[nodiscard]] std::byte* packed_x(std::int64_t block) const {
        return memory_ + layout_.x_offset + block % layout_.slots * layout_.x_bytes;
    }
    [[nodiscard]] std::byte* middle(std::int64_t block, const Member& of) const {
        std::byte* at = memory_ + layout_.middle_offset + block % layout_.slots * layout_.middle_bytes;
        for (const Member* member = members_.data(); member != &of; ++member) {
            if (member->second != nullptr) at += layout_.member_bytes(member->first->cols());
        }
        return at;
    }

    [[nodiscard]] std::int64_t rows(std::int64_t block) const {
        return std::min(layout_.block_rows, x_.rows() - block * layout_.block_rows);
    }
    [[nodiscard]] std::int64_t tiles(std::int64_t block) const {
        std::int64_t count = 0;
        for (std::int64_t row = 0; row < rows(block); row += tile(block, row).rows) ++count;
        return count;
    }
    [[nodiscard]] const ForwardTile<C>& tile(std::int64_t block, std::int64_t row) const {
        return first_.kernels.for_rows(rows(block) - row);
    }

    /// Panels [begin, end) of one member's first or second weights.
    struct Chunk {
        const Member* member = nullptr;
        std::int64_t begin = 0, end = 0;
    };

    /// The size of the chunk that begins at a panel. Few rows wait for memory, which is fastest when each thread reads
    /// a long way in sequence: chunks take what a thread's share would be of half of what is left (guided scheduling,
    /// Polychronopoulos and Kuck 1987). Many rows take kForwardChunkPanels, or fewer if threads would idle.
    [[nodiscard]] std::int64_t chunk_size(const PackedWeight<T>& w, std::int64_t begin) const {
        const std::int64_t left = w.panels() - begin;
        if (workers_ == 1) return std::min(left, kForwardChunkPanels);
        if (x_.rows() > kForwardGuidedRows) {
            const std::int64_t even =
                round_up(std::max<std::int64_t>(1, w.panels() / (8 * workers_)), kMaxForwardPanels);
            return std::min({left, kForwardChunkPanels, even});
        }
        const std::int64_t panel_bytes =
            std::max<std::int64_t>(1, w.panel_size()) * static_cast<std::int64_t>(sizeof(T));
        const std::int64_t least = std::max<std::int64_t>(1, kForwardChunkBytes / panel_bytes);
        const std::int64_t guided = std::max(least, left / (2 * workers_));
        return std::min(left, x_.rows() > kMaxForwardRows ? round_up(guided, kMaxForwardPanels) : guided);
    }
    /// The chunk of that number.
    [[nodiscard]] Chunk chunk_at(bool second, std::int64_t number) const {
        for (const Member& member : members_) {
            const PackedWeight<T>* w = second ? member.second : member.first;
            for (std::int64_t begin = 0; w != nullptr && begin < w->panels(); --number) {
                const std::int64_t end = begin + chunk_size(*w, begin);
                if (number == 0) return {&member, begin, end};
                begin = end;
            }
        }
        return {};  // not reached: tickets end before
    }
    [[nodiscard]] std::int64_t chunks(bool second) const {
        std::int64_t count = 0;
        for (const Member& member : members_) {
            const PackedWeight<T>* w = second ? member.second : member.first;
            for (std::int64_t begin = 0; w != nullptr && begin < w->panels(); ++count) begin += chunk_size(*w, begin);
        }
        return count;
    }

    void work_on(std::int64_t worker) {
        C* scratch = reinterpret_cast<C*>(memory_ + layout_.scratch_offset + worker * layout_.scratch_bytes);
        std::int64_t begin = 0;
        std::int64_t end = 0;
        std::int64_t group =
            -1;  // 3 b packs block b, 3 b + 1 is the first product of b - 1, 3 b + 2 the second of b - 2
        const std::int64_t groups = 3 * (layout_.blocks + 2);
        for (;;) {
            const std::int64_t ticket = next_.fetch_add(1, std::memory_order_relaxed);
            while (ticket >= end) {
                if (++group == groups) return;
                begin = end;
                end += size(group);
            }
            const std::int64_t chunk = ticket - begin;
            const std::int64_t block = group / 3 - group % 3;
            switch (group % 3) {
                case 0: pack(block, chunk); break;
                case 1: first(block, chunk, scratch); break;
                default: second(block, chunk, scratch); break;
            }
        }
    }
    /// Tickets of a group.
    [[nodiscard]] std::int64_t size(std::int64_t group) const {
        const std::int64_t block = group / 3 - group % 3;
        if (block < 0 || block >= layout_.blocks) return 0;
        switch (group % 3) {
            case 0: return tiles(block) * first_.blocks(x_.cols());
            case 1: return first_chunks_;
            default: return second_chunks_;
        }
    }

    void pack(std::int64_t block, std::int64_t chunk) {
        if (block >= layout_.slots) wait_for(progress(block - layout_.slots).first, first_chunks_);
        const std::int64_t depth_blocks = first_.blocks(x_.cols());
        const std::int64_t row = chunk / depth_blocks * first_.kernels.main().rows;
        const std::int64_t width = tile(block, row).rows;
        const std::int64_t step = chunk % depth_blocks * first_.block_steps;
        const std::int64_t entries = std::min(first_.block_steps, first_.steps(x_.cols()) - step) * first_.step_entries;
        const std::int64_t k = step * kStoredPerStep<T>;
        const PackSource<T> source{x_.row(block * layout_.block_rows + row) + k, x_.leading_dimension(), false,
                                   std::min(width, rows(block) - row),
                                   std::min(first_.block_steps * kStoredPerStep<T>, x_.cols() - k)};
        std::byte* to = packed_x(block) +
                        chunk / depth_blocks * first_.tile_bytes(x_.cols(), first_.kernels.main().rows) +
                        chunk % depth_blocks * first_.block_bytes(x_.cols(), width);
        if constexpr (std::is_same_v<T, bf16>) {
            if (first_.kernels.pairs) {
                pack_rows(isa_, source, static_cast<int>(width), entries, reinterpret_cast<std::uint32_t*>(to));
            } else {
                pack_rows(isa_, source, static_cast<int>(width), entries, reinterpret_cast<C*>(to));
            }
        } else {
            pack_rows(isa_, source, static_cast<int>(width), entries, reinterpret_cast<C*>(to));
        }
        progress(block).packed.fetch_add(1, std::memory_order_release);
    }

    void first(std::int64_t block, std::int64_t chunk, C* scratch) {
        const auto [of, panel, end] = chunk_at(false, chunk);
        const Member& member = *of;
        await(progress(block).packed, size(3 * block), *member.first, panel, end);
        if (member.second != nullptr) {
            if (block >= layout_.slots) wait_for(progress(block - layout_.slots).second, second_chunks_);
            multiply(first_, block, packed_x(block), *member.first, panel, end, scratch,
                     PackTile{this, block, member.first->cols(), middle(block, member)});
        } else {
            multiply(first_, block, packed_x(block), *member.first, panel, end, scratch,
                     StoreTile{this, block, &member});
        }
        progress(block).first.fetch_add(1, std::memory_order_release);
    }

    void second(std::int64_t block, std::int64_t chunk, C* scratch) {
        const auto [of, panel, end] = chunk_at(true, chunk);
        const Member& member = *of;
        await(progress(block).first, first_chunks_, *member.second, panel, end);
        multiply(second_, block, middle(block, member), *member.second, panel, end, scratch,
                 StoreTile{this, block, &member});
        progress(block).second.fetch_add(1, std::memory_order_release);
    }

    /// Waits, and fetches the weights of panels [panel, end) meanwhile.
    static void await(const std::atomic<std::int64_t>& count, std::int64_t target, const PackedWeight<T>& w,
                      std::int64_t panel, std::int64_t end) {
        if (count.load(std::memory_order_acquire) >= target) return;
        const auto* from = reinterpret_cast<const std::byte*>(w.panel(panel));
        const auto bytes =
            std::min(kForwardChunkBytes, (end - panel) * w.panel_size() * static_cast<std::int64_t>(sizeof(T)));
        for (std::int64_t i = 0; i < bytes && count.load(std::memory_order_relaxed) < target; i += 64) {
            prefetch(from + i);
        }
        wait_for(count, target);
    }

    /// Where a product's tiles go: into Y.
    struct StoreTile {
        const ForwardRun* run;
        std::int64_t block;
        const Member* member;

        [[nodiscard]] Out* at(std::int64_t row, std::int64_t column) const {
            return member->y.row(block * run->layout_.block_rows + row) + column;
        }
        /// Before the sums of a tile are done: fetches what they will overwrite.
        void expect(std::int64_t row, std::int64_t count, std::int64_t column, std::int64_t columns) const {
            constexpr std::int64_t kLine = 64 / sizeof(Out);
            for (std::int64_t i = 0; i < count; ++i) {
                for (std::int64_t j = 0; j < columns; j += kLine) prefetch(at(row + i, column + j));
            }
        }
        void operator()(std::int64_t row, std::int64_t count, std::int64_t column, std::int64_t columns, const C* c,
                        std::int64_t ldc) const {
            run->store_(c, ldc, member->bias == nullptr ? nullptr : member->bias + column, count, columns,
                        at(row, column), member->y.leading_dimension());
        }
    };
    /// Or into the rows of the second product.
    struct PackTile {
        const ForwardRun* run;
        std::int64_t block;
        std::int64_t rank;
        std::byte* to;

        void expect(std::int64_t, std::int64_t, std::int64_t, std::int64_t) const {}
        void operator()(std::int64_t row, std::int64_t count, std::int64_t column, std::int64_t columns, const C* c,
                        std::int64_t ldc) const {
            run->pack_middle(block, row, count, column, columns, c, ldc, rank, to);
        }
    };

    /// Hands panels [panel, end) of the product of a block of rows with w to `finish`, tile by tile.
    template <class Finish>
    void multiply(const ForwardProduct<T>& product, std::int64_t block, const std::byte* a, const PackedWeight<T>& w,
                  std::int64_t panel, std::int64_t end, C* scratch, const Finish& finish) const {
        constexpr std::int64_t kWidth = PackedWeight<T>::kWidth;
        const std::int64_t depth = w.rows();
        const std::int64_t tile_bytes = product.tile_bytes(depth, product.kernels.main().rows);
        const std::int64_t row_count = rows(block);
        const std::int64_t tile_count = tiles(block);
        const bool one_tile = tile_count == 1;
        const std::int64_t group = one_tile ? tile(block, 0).panels : product.kernels.main().panels;
        const bool resident =
            one_tile || product.blocks(depth) == 1 || tile_count * tile_bytes <= kForwardResidentBytes;
        const std::int64_t pass = resident ? group : std::min(end - panel, kForwardChunkPanels);
        const std::int64_t ldc = pass * kWidth;
        for (; panel < end; panel += pass) {
            const std::int64_t pass_end = std::min(panel + pass, end);
            for (std::int64_t k = 0; k < product.blocks(depth); ++k) {
                const std::int64_t step = k * product.block_steps;
                const std::int64_t steps = std::min(product.block_steps, product.steps(depth) - step);
                for (std::int64_t p = panel; p < pass_end; p += group) {
                    const T* weights = w.panel(p) + step * kWidth * kStoredPerStep<T>;
                    const std::int64_t panels = std::min(group, pass_end - p);
                    const T* next = one_tile ? weights + kForwardAheadBytes / static_cast<std::int64_t>(sizeof(T))
                                             : following(product, w, k, p, group, panel, pass_end);
                    const ForwardAhead<T> ahead(next, w.panel_size(), panels, steps, tile_count);
                    std::int64_t index = 0;
                    for (std::int64_t row = 0; row < row_count; ++index) {
                        const ForwardTile<C>& tile = product.kernels.for_rows(row_count - row);
                        const std::byte* from = a + index * tile_bytes + k * product.block_bytes(depth, tile.rows);
                        C* c = scratch + row * ldc + (p - panel) * kWidth;
                        const std::int64_t count = std::min<std::int64_t>(tile.rows, row_count - row);
                        const std::int64_t columns = std::min(panels * kWidth, w.cols() - p * kWidth);
                        const bool last = k + 1 == product.blocks(depth);
                        if (last) finish.expect(row, count, p * kWidth, columns);
                        if (tile.panels == panels) {
                            tile.wide(steps, from, weights, w.panel_size(), ahead.of(index), ahead.stride(), c, ldc,
                                      k > 0);
                        } else {
                            for (std::int64_t q = 0; q < panels; ++q) {
                                tile.narrow(steps, from, weights + q * w.panel_size(), 0, ahead.of(index),
                                            ahead.stride(), c + q * kWidth, ldc, k > 0);
                            }
                        }
                        if (last) finish(row, count, p * kWidth, columns, c, ldc);
                        row += tile.rows;
                    }
                }
            }
        }
    }

    /// The weights after block k of panel p in the order of a pass, where another follows.
    static const T* following(const ForwardProduct<T>& product, const PackedWeight<T>& w, std::int64_t k,
                              std::int64_t p, std::int64_t group, std::int64_t pass_begin, std::int64_t pass_end) {
        constexpr std::int64_t kStep = PackedWeight<T>::kWidth * kStoredPerStep<T>;
        if (p + group < pass_end) return w.panel(p + group) + k * product.block_steps * kStep;
        if (k + 1 < product.blocks(w.rows())) return w.panel(pass_begin) + (k + 1) * product.block_steps * kStep;
        return w.panel(std::min(pass_end, w.panels() - 1));
    }

    /// Packs columns of X W1 as the second product takes its rows.
    void pack_middle(std::int64_t block, std::int64_t row, std::int64_t count, std::int64_t column,
                     std::int64_t columns, const C* c, std::int64_t ldc, std::int64_t rank, std::byte* to) const {
        constexpr std::int64_t kWidth = PackedWeight<T>::kWidth;
        const std::int64_t width = tile(block, row).rows;
        to += row / first_.kernels.main().rows * second_.tile_bytes(rank, first_.kernels.main().rows);
        // One panel at a time: it lies within one block of entries.
        for (std::int64_t j = 0; j < columns; j += kWidth) {
            alignas(64) std::array<std::byte, (kMaxForwardRows * kWidth + kPackSlack) * sizeof(C)> packed;
            const std::int64_t depth = std::min(kWidth, columns - j);
            const std::int64_t entries = second_.steps(depth) * second_.step_entries;
            const PackSource<C> source{c + j, ldc, false, count, depth};
            pack_middle_panel(source, static_cast<int>(width), entries, packed.data());
            const std::int64_t entry = second_.steps(column + j) * second_.step_entries;
            std::memcpy(to + entry / kForwardBlockEntries * second_.block_bytes(rank, width) +
                            entry % kForwardBlockEntries * width * second_.entry_bytes,
                        packed.data(), static_cast<std::size_t>(entries * width * second_.entry_bytes));
        }
    }
    void pack_middle_panel(const PackSource<C>& source, int width, std::int64_t entries, std::byte* to) const {
        if constexpr (std::is_same_v<T, bf16>) {
            if (second_.kernels.pairs) {
                constexpr std::int64_t kWidth = PackedWeight<T>::kWidth;
                std::array<bf16, kMaxForwardRows * kWidth> rounded;
                store_rows_for<C, bf16>(isa_)(source.data, source.stride, nullptr, source.lanes, source.depth,
                                              rounded.data(), kWidth);
                const PackSource<bf16> pairs{rounded.data(), kWidth, false, source.lanes, source.depth};
                pack_rows(isa_, pairs, width, entries, reinterpret_cast<std::uint32_t*>(to));
                return;
            }
        }
        pack_rows(isa_, source, width, entries, reinterpret_cast<C*>(to));
    }

    Isa isa_;
    MatrixView<const T> x_;
    std::span<const Member> members_;
    ForwardLayout<T> layout_;
    ForwardProduct<T> first_;
    ForwardProduct<T> second_;
    StoreRows<C, Out> store_;
    std::byte* memory_;
    std::int64_t workers_ = 1;
    std::int64_t first_chunks_ = 0, second_chunks_ = 0;  ///< of a block of rows
    std::atomic<std::int64_t> next_{0};
};

}  // namespace lowrank::cpu::detail
