// lowrank - one forward at work: the order in which threads share it.
// SPDX-License-Identifier: MIT
//
// X is cut into blocks of rows. For each block the rows that the kernels cannot read where they are get copied, then
// come the chunks of the first product, whose results are the rows of the second, then the chunks of the second, whose
// results are stored in Y with the bias. All of it happens in one parallel region, in the order of tickets as in
// gemm_run.hpp, with one block copied, one in the first and one in the second product at a time, so that in practice no
// thread waits. With a single block they wait at the two borders, and fetch their chunk's weights into the cache
// meanwhile. An element of Y is the same sum in the same order whoever computes it.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/forward_plan.hpp>
#include <lowrank/cpu/kernels/forward_product.hpp>
#include <lowrank/cpu/kernels/forward_results.hpp>
#include <lowrank/cpu/kernels/pack_row.hpp>
#include <lowrank/cpu/kernels/wait.hpp>
#include <lowrank/cpu/packed_weight.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
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

// Rows that one ticket copies.
inline constexpr std::int64_t kForwardCopyRows = 4;

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
          direct_(first_.reads(x)),
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
    [[nodiscard]] std::byte* copied_x(std::int64_t block) const {
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

    /// Panels [begin, end) of one member's first or second weights.
    struct Chunk {
        const Member* member = nullptr;
        std::int64_t begin = 0, end = 0;
    };

    /// The size of the chunk that begins at a panel. Few rows wait for memory, which is fastest when each thread reads
    /// a long way in sequence: chunks take what a thread's share would be of half of what is left (guided scheduling,
    /// Polychronopoulos and Kuck 1987). Many rows, which each chunk reads again, take chunks as large as they may be
    /// with equally many for every thread.
    [[nodiscard]] std::int64_t chunk_size(const PackedWeight<T>& w, std::int64_t begin) const {
        const std::int64_t left = w.panels() - begin;
        if (workers_ == 1) return std::min(left, kForwardChunkPanels);
        if (x_.rows() > kForwardGuidedRows) {
            const std::int64_t rounds = ceil_div(w.panels(), kForwardChunkPanels * workers_);
            return std::min(left, round_up(ceil_div(w.panels(), rounds * workers_), kMaxForwardPanels));
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
            -1;  // 3 b copies block b, 3 b + 1 is the first product of b - 1, 3 b + 2 the second of b - 2
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
                case 0: copy(block, chunk); break;
                case 1: first(block, chunk, scratch); break;
                default: second(block, chunk, scratch); break;
            }
        }
    }
    /// Tickets of a group.
    [[nodiscard]] std::int64_t size(std::int64_t group) const {
        const std::int64_t block = group / 3 - group % 3;
        if (block < 0 || block >= layout_.blocks) return 0;
        if (group % 3 == 1) return first_chunks_;
        if (group % 3 == 2) return second_chunks_;
        const RowRange copied = copied_rows(block);
        return ceil_div(copied.end - copied.begin, kForwardCopyRows);
    }

    struct RowRange {
        std::int64_t begin = 0, end = 0;
    };
    /// The rows of a block that are copied: all, or those of a last tile that has more rows than are left.
    [[nodiscard]] RowRange copied_rows(std::int64_t block) const {
        RowRange copied;
        first_.kernels.for_tiles(rows(block), [&](std::int64_t row, const ForwardTile<C>& tile) {
            copied.end = row + tile.rows;
            if (direct_ && copied.end <= rows(block)) copied.begin = copied.end;
        });
        return copied;
    }
    void copy(std::int64_t block, std::int64_t chunk) {
        if (block >= layout_.slots) wait_for(progress(block - layout_.slots).first, first_chunks_);
        const RowRange copied = copied_rows(block);
        const std::int64_t begin = copied.begin + chunk * kForwardCopyRows;
        const std::int64_t end = std::min(begin + kForwardCopyRows, copied.end);
        const std::int64_t row_bytes = first_.row_bytes(x_.cols());
        const std::int64_t entries = first_.steps(x_.cols()) * first_.step_entries;
        for (std::int64_t row = begin; row < end; ++row) {
            std::byte* to = copied_x(block) + row * row_bytes;
            if (row >= rows(block)) {
                std::memset(to, 0, static_cast<std::size_t>(row_bytes));
                continue;
            }
            const T* from = x_.row(block * layout_.block_rows + row);
            if constexpr (std::is_same_v<T, bf16>) {
                if (first_.kernels.pairs) {
                    pack_row(isa_, from, x_.cols(), entries, reinterpret_cast<std::uint32_t*>(to));
                    continue;
                }
            }
            pack_row(isa_, from, x_.cols(), entries, reinterpret_cast<C*>(to));
        }
        progress(block).copied.fetch_add(1, std::memory_order_release);
    }

    /// Rows of X for a tile of `count`.
    [[nodiscard]] ForwardRows x_rows(std::int64_t block, std::int64_t row, std::int64_t count) const {
        if (direct_ && row + count <= rows(block)) {
            return {reinterpret_cast<const std::byte*>(x_.row(block * layout_.block_rows + row)),
                    x_.leading_dimension() * static_cast<std::int64_t>(sizeof(T))};
        }
        const std::int64_t row_bytes = first_.row_bytes(x_.cols());
        return {copied_x(block) + row * row_bytes, row_bytes};
    }

    void first(std::int64_t block, std::int64_t chunk, C* scratch) {
        const auto [of, panel, end] = chunk_at(false, chunk);
        const Member& member = *of;
        await(progress(block).copied, size(3 * block), *member.first, panel, end);
        const auto from = [&](std::int64_t row, std::int64_t count) { return x_rows(block, row, count); };
        if (member.second != nullptr) {
            if (block >= layout_.slots) wait_for(progress(block - layout_.slots).second, second_chunks_);
            const ForwardMiddle<T> results(isa_, second_, member.first->cols(), middle(block, member));
            multiply_panels(first_, rows(block), from, *member.first, panel, end, scratch, results);
        } else {
            multiply_panels(first_, rows(block), from, *member.first, panel, end, scratch, output(block, member));
        }
        progress(block).first.fetch_add(1, std::memory_order_release);
    }

    void second(std::int64_t block, std::int64_t chunk, C* scratch) {
        const auto [of, panel, end] = chunk_at(true, chunk);
        const Member& member = *of;
        await(progress(block).first, first_chunks_, *member.second, panel, end);
        const std::byte* data = middle(block, member);
        const std::int64_t row_bytes = second_.row_bytes(member.first->cols());
        const auto from = [&](std::int64_t row, std::int64_t /*count*/) {
            return ForwardRows{data + row * row_bytes, row_bytes};
        };
        multiply_panels(second_, rows(block), from, *member.second, panel, end, scratch, output(block, member));
        progress(block).second.fetch_add(1, std::memory_order_release);
    }

    [[nodiscard]] ForwardOutput<C, Out> output(std::int64_t block, const Member& member) const {
        return {member.y.block(block * layout_.block_rows, 0, rows(block), member.y.cols()), member.bias, store_};
    }

    /// Waits, and fetches the weights of panels [panel, end) meanwhile.
    static void await(const std::atomic<std::int64_t>& count, std::int64_t target, const PackedWeight<T>& w,
                      std::int64_t panel, std::int64_t end) {
        if (count.load(std::memory_order_acquire) >= target) return;
        const auto* from = reinterpret_cast<const std::byte*>(w.panel(panel));
        const auto bytes =
            std::min(kForwardChunkBytes, (end - panel) * w.panel_size() * static_cast<std::int64_t>(sizeof(T)));
        for (std::int64_t i = 0; i < bytes && count.load(std::memory_order_relaxed) < target; i += kLineBytes) {
            prefetch(from + i);
        }
        wait_for(count, target);
    }

    Isa isa_;
    MatrixView<const T> x_;
    std::span<const Member> members_;
    ForwardLayout<T> layout_;
    ForwardProduct<T> first_;
    ForwardProduct<T> second_;
    bool direct_;  ///< the kernels read X where it is
    StoreRows<C, Out> store_;
    std::byte* memory_;
    std::int64_t workers_ = 1;
    std::int64_t first_chunks_ = 0, second_chunks_ = 0;  ///< of a block of rows
    std::atomic<std::int64_t> next_{0};
};

}  // namespace lowrank::cpu::detail
