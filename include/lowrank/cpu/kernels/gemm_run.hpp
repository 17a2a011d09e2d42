// lowrank - one general product at work: its blocking for the caches and the order in which threads share it.
// SPDX-License-Identifier: MIT
//
// Blocking after Goto and van de Geijn (2008), "Anatomy of high-performance matrix multiplication". The product is
// cut into stages, a block of columns by a block of the inner dimension each: first op(B)'s block is packed, shared by
// all, then the chunks of C are computed, each thread packing the rows of op(A) that its chunk needs.
//
// All of it happens in one parallel region. Threads draw chunks from one sequence of tickets, and a chunk may wait
// only for chunks with smaller tickets, which have been drawn by threads that are running: so it ends on any number
// of threads, also when a host runs the workers one after another. Packing runs two stages ahead, so that in
// practice nothing waits. An element of C is the same sum in the same order whoever computes its chunk.
#pragma once

#include <lowrank/aligned_memory.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/gemm_kernels.hpp>
#include <lowrank/cpu/kernels/gemm_operands.hpp>
#include <lowrank/cpu/kernels/pack.hpp>
#include <lowrank/cpu/kernels/wait.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank::cpu::detail {

// Rows of A in a chunk, at most: 112 x 384 x 4 bytes = 168 KiB of float, for a second-level cache of 256 KiB or more.
// Of double twice as many: with half the rows the products of Zen 3, whose cache has 512 KiB, are no faster.
inline constexpr std::int64_t kChunkRows = 112;

// Columns in a block of op(B), which is 6 MiB of float in the last-level cache. And in a chunk, at most: the packing of
// A's rows is spread over so many.
inline constexpr std::int64_t kBlockColumns = 4096;

// Columns of op(B) that one ticket packs.
inline constexpr std::int64_t kPackColumns = 128;

// Operations below which a second thread costs more than it brings: about 10 us of one AVX2 core, two or three times
// what OpenMP takes to start a region.
inline constexpr double kSerialOperations = 1e6;

/// Which part of C is wanted: all, or what lies on and above the diagonal.
enum class Part : std::uint8_t { all, upper };

/// C = alpha op(A) op(B) + beta C with operands packed as P, `elements` of the inner dimension in each, accumulated in
/// E.
template <class P, class E>
class GemmRun {
public:
    /// `a.lanes()` rows by `b.lanes()` columns, equal depth > 0. `packed_a` may hold a's rows already.
    GemmRun(const Context& context, const GemmTile<E, P>& tile, int elements, Part part, E alpha,
            const PackedFrom<P>& a, const PackedFrom<P>& b, E beta, E* c, std::int64_t ldc,
            const PackedRows<P>* packed_a = nullptr)
        : isa_(context.isa()),
          tile_(tile),
          elements_(elements),
          part_(part),
          alpha_(alpha),
          beta_(beta),
          a_(a),
          packed_a_(packed_a),
          b_(b),
          c_(c),
          ldc_(ldc) {
        const double operations =
            2.0 * static_cast<double>(a.lanes()) * static_cast<double>(b.lanes()) * static_cast<double>(a.depth());
        const double useful = std::max(1.0, operations / kSerialOperations);
        workers_ = useful < context.threads() ? static_cast<std::int64_t>(useful) : context.threads();
        plan();
        context.parallel_for(workers_, [this](std::int64_t worker) { work(worker); });
    }

private:
    struct Group {
        std::int64_t end;    ///< ticket after its last
        std::int64_t stage;  ///< which block of columns and steps
        bool packs;
    };

    [[nodiscard]] std::int64_t block_depth() const { return kBlockSteps * elements_; }
    [[nodiscard]] std::int64_t tile_columns() const { return tile_.panels * kPanelWidth<E>; }
    [[nodiscard]] std::int64_t first_column(std::int64_t stage) const { return stage / depth_blocks_ * block_columns_; }
    [[nodiscard]] std::int64_t columns(std::int64_t stage) const {
        return std::min(block_columns_, b_.lanes() - first_column(stage));
    }
    [[nodiscard]] std::int64_t first_depth(std::int64_t stage) const { return stage % depth_blocks_ * block_depth(); }
    [[nodiscard]] std::int64_t depth(std::int64_t stage) const {
        return std::min(block_depth(), a_.depth() - first_depth(stage));
    }
    [[nodiscard]] std::int64_t steps(std::int64_t stage) const { return ceil_div(depth(stage), elements_); }
    [[nodiscard]] std::int64_t panel_steps(std::int64_t stage) const { return steps(stage) + tile_.steps_behind; }
    [[nodiscard]] P* packed_b(std::int64_t stage) const { return packed_b_.get() + stage % kBuffers * buffer_size_; }

    void plan() {
        const std::int64_t width = tile_columns();
        block_columns_ = std::min(kBlockColumns, ceil_div(b_.lanes(), width) * width);
        depth_blocks_ = ceil_div(a_.depth(), block_depth());
        stages_ = ceil_div(b_.lanes(), block_columns_) * depth_blocks_;
        chunk_rows_ = kChunkRows / tile_.rows * tile_.rows;
        chunk_columns_ = block_columns_;
        // The shape of chunks has no influence on the sums, so it may follow the number of threads.
        while (chunks_of(0) < 4 * workers_ && chunk_columns_ > 4 * width) {
            chunk_columns_ = ceil_div(chunk_columns_ / 2, width) * width;
        }
        while (chunks_of(0) < 4 * workers_ && chunk_rows_ > 2 * tile_.rows) {
            chunk_rows_ = ceil_div(chunk_rows_ / 2, tile_.rows) * tile_.rows;
        }

        const std::int64_t block_steps = panel_steps(0);
        buffer_size_ = block_columns_ * block_steps;
        scratch_size_ = ceil_div(chunk_rows_ * block_steps + kPackSlack, kPanelWidth<P>) * kPanelWidth<P>;
        packed_b_ = lowrank::detail::allocate_aligned<P>(index(std::min(stages_, kBuffers) * buffer_size_));
        scratch_ = lowrank::detail::allocate_aligned<P>(index(workers_ * scratch_size_));
        progress_ = std::vector<std::atomic<std::int64_t>>(index(chunks_of(0)));
        packed_ = std::vector<std::atomic<std::int64_t>>(index(stages_));
        computed_ = std::vector<std::atomic<std::int64_t>>(index(stages_));

        groups_.reserve(index(2 * stages_));
        std::int64_t end = 0;
        const auto pack = [&](std::int64_t stage) {
            if (stage < stages_) groups_.push_back({end += pack_chunks_of(stage), stage, true});
        };
        pack(0);
        pack(1);
        for (std::int64_t stage = 0; stage < stages_; ++stage) {
            groups_.push_back({end += chunks_of(stage), stage, false});
            pack(stage + 2);
        }
    }
    [[nodiscard]] std::int64_t pack_chunks_of(std::int64_t stage) const {
        return ceil_div(columns(stage), kPackColumns);
    }
    [[nodiscard]] std::int64_t row_chunks() const { return ceil_div(a_.lanes(), chunk_rows_); }
    [[nodiscard]] std::int64_t chunks_of(std::int64_t stage) const {
        return row_chunks() * ceil_div(columns(stage), chunk_columns_);
    }

    void work(std::int64_t worker) {
        P* scratch = scratch_.get() + worker * scratch_size_;
        std::size_t group = 0;
        for (;;) {
            const std::int64_t ticket = next_.fetch_add(1, std::memory_order_relaxed);
            while (group < groups_.size() && ticket >= groups_[group].end) ++group;
            if (group == groups_.size()) return;
            const std::int64_t chunk = ticket - (group == 0 ? 0 : groups_[group - 1].end);
            const std::int64_t stage = groups_[group].stage;
            groups_[group].packs ? pack_chunk(stage, chunk) : compute_chunk(stage, chunk, scratch);
        }
    }

    void pack_chunk(std::int64_t stage, std::int64_t chunk) {
        if (stage >= kBuffers) wait_for(computed_[index(stage - kBuffers)], chunks_of(stage - kBuffers));
        const std::int64_t begin = chunk * kPackColumns;
        const std::int64_t end = std::min(begin + kPackColumns, columns(stage));
        for (std::int64_t j = begin; j < end; j += kPanelWidth<E>) {
            b_.pack(isa_, first_column(stage) + j, first_depth(stage), depth(stage),
                    packed_b(stage) + j * panel_steps(stage), kPanelWidth<E>);
        }
        packed_[index(stage)].fetch_add(1, std::memory_order_release);
    }

    void compute_chunk(std::int64_t stage, std::int64_t chunk, P* scratch) {
        const std::int64_t column_begin = chunk / row_chunks() * chunk_columns_;
        const std::int64_t column_end = std::min(column_begin + chunk_columns_, columns(stage));
        const std::int64_t row_begin = chunk % row_chunks() * chunk_rows_;
        const std::int64_t row_end = std::min(row_begin + chunk_rows_, a_.lanes());
        const bool wanted = part_ == Part::all || first_column(stage) + column_end > row_begin;
        if (wanted) {
            for (std::int64_t i = row_begin; packed_a_ == nullptr && i < row_end; i += tile_.rows) {
                a_.pack(isa_, i, first_depth(stage), depth(stage), scratch + (i - row_begin) * panel_steps(stage),
                        tile_.rows);
            }
            wait_for(packed_[index(stage)], pack_chunks_of(stage));
        }
        // For the sums so far, and where a block of columns begins (or nothing is wanted) so that the count only rises.
        if (stage > 0) wait_for(progress_[index(chunk)], stage);
        if (wanted) {
            for (std::int64_t j = column_begin; j < column_end; j += tile_columns()) {
                for (std::int64_t i = row_begin; i < row_end; i += tile_.rows) {
                    compute_tile(stage, i, std::min<std::int64_t>(tile_.rows, row_end - i), j,
                                 std::min(tile_columns(), column_end - j),
                                 packed_a_ == nullptr ? scratch + (i - row_begin) * panel_steps(stage)
                                                      : packed_a_->tile(stage % depth_blocks_, i));
                }
            }
        }
        progress_[index(chunk)].store(stage + 1, std::memory_order_release);
        computed_[index(stage)].fetch_add(1, std::memory_order_release);
    }

    void compute_tile(std::int64_t stage, std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t columns,
                      const P* a) {
        const std::int64_t column = first_column(stage) + j;
        if (part_ == Part::upper && column + columns <= i) return;
        const bool first = stage % depth_blocks_ == 0;
        const E beta = first ? beta_ : E{1};
        const std::int64_t count = steps(stage);
        const std::int64_t panel_stride = panel_steps(stage) * kPanelWidth<E>;
        const P* b = packed_b(stage) + j * panel_steps(stage);
        E* c = c_ + i * ldc_ + column;
        const bool narrow = columns <= kPanelWidth<E>;
        const auto kernel = narrow ? tile_.narrow : tile_.wide;
        const std::int64_t kernel_columns = narrow ? kPanelWidth<E> : tile_columns();
        if (rows == tile_.rows && columns == kernel_columns) {
            kernel(count, a, b, panel_stride, alpha_, beta, c, ldc_);
            return;
        }
        alignas(64) E edge[kMaxTileRows * kMaxTilePanels * kPanelWidth<E>];
        kernel(count, a, b, panel_stride, alpha_, E{0}, edge, kernel_columns);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t s = 0; s < columns; ++s) {
                const E kept = beta == E{0} ? E{0} : beta * c[r * ldc_ + s];
                c[r * ldc_ + s] = edge[r * kernel_columns + s] + kept;
            }
        }
    }

    static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

    static constexpr std::int64_t kBuffers = 3;
    Isa isa_;
    GemmTile<E, P> tile_;
    int elements_;  ///< of the inner dimension in one step
    Part part_;
    E alpha_, beta_;
    PackedFrom<P> a_;
    const PackedRows<P>* packed_a_;
    PackedFrom<P> b_;
    E* c_;
    std::int64_t ldc_;

    std::int64_t workers_ = 1;
    std::int64_t block_columns_ = 0, depth_blocks_ = 0, stages_ = 0;
    std::int64_t chunk_rows_ = 0, chunk_columns_ = 0;
    std::int64_t buffer_size_ = 0, scratch_size_ = 0;
    lowrank::detail::AlignedArray<P> packed_b_, scratch_;
    std::vector<Group> groups_;
    std::atomic<std::int64_t> next_{0};
    std::vector<std::atomic<std::int64_t>> packed_, computed_;  ///< by stage: chunks done
    std::vector<std::atomic<std::int64_t>> progress_;           ///< by chunk of C: stages done
};

}  // namespace lowrank::cpu::detail
