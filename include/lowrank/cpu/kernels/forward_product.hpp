// lowrank - the product of a block of rows with panels of a packed weight, tile by tile.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/forward_plan.hpp>
#include <lowrank/cpu/kernels/forward_results.hpp>
#include <lowrank/cpu/packed_weight.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace lowrank::cpu::detail {

// How far ahead of its use one tile alone fetches the weights. Measured on Zen 5, one core, 2560 x 2560 r 384, 16 rows:
// bf16 358 GFLOP/s with 4 KiB, 404 with 8; float 177 and 207. 16 KiB are as 8; one row does not care between 4 and 16.
inline constexpr std::int64_t kForwardAheadBytes = 8192;

// Rows of a block that stay in the second-level cache whole, so that one panel after another can be finished.
inline constexpr std::int64_t kForwardResidentBytes = 256 * 1024;

/// Rows as a product takes them, `stride` bytes apart.
struct ForwardRows {
    const std::byte* data;
    std::int64_t stride;
};

/// The weights after block k of panel p in the order of a pass, where another follows.
template <class T>
const T* following(const ForwardProduct<T>& product, const PackedWeight<T>& w, std::int64_t k, std::int64_t p,
                   std::int64_t group, std::int64_t pass_begin, std::int64_t pass_end) {
    constexpr std::int64_t kStep = PackedWeight<T>::kWidth * kStoredPerStep<T>;
    if (p + group < pass_end) return w.panel(p + group) + k * product.block_steps(w.rows()) * kStep;
    if (k + 1 < product.blocks(w.rows())) return w.panel(pass_begin) + (k + 1) * product.block_steps(w.rows()) * kStep;
    return w.panel(std::min(pass_end, w.panels() - 1));
}

/// Leaves panels [panel, end) of the product of `row_count` rows with w in `results`. `rows_from(row, count)` gives the
/// ForwardRows of a tile of `count` rows, which may be more than there are. `scratch` has the sums of a pass.
template <class T, class RowsFrom, class Results>
void multiply_panels(const ForwardProduct<T>& product, std::int64_t row_count, const RowsFrom& rows_from,
                     const PackedWeight<T>& w, std::int64_t panel, std::int64_t end, compute_t<T>* scratch,
                     const Results& results) {
    using C = compute_t<T>;
    constexpr std::int64_t kWidth = PackedWeight<T>::kWidth;
    const std::int64_t blocks = product.blocks(w.rows());
    const std::int64_t block_steps = product.block_steps(w.rows());
    const std::int64_t tile_count = product.kernels.tiles_for(row_count);
    const bool one_tile = tile_count == 1;
    const std::int64_t group = one_tile ? product.kernels.for_rows(row_count).panels : product.kernels.main().panels;
    const bool resident = one_tile || blocks == 1 || row_count * product.row_bytes(w.rows()) <= kForwardResidentBytes;
    const std::int64_t pass = resident ? group : std::min(end - panel, kForwardChunkPanels);
    for (; panel < end; panel += pass) {
        const std::int64_t pass_end = std::min(panel + pass, end);
        for (std::int64_t k = 0; k < blocks; ++k) {
            const std::int64_t step = k * block_steps;
            const std::int64_t steps = std::min(block_steps, product.steps(w.rows()) - step);
            for (std::int64_t p = panel; p < pass_end; p += group) {
                const T* weights = w.panel(p) + step * kWidth * kStoredPerStep<T>;
                const std::int64_t panels = std::min(group, pass_end - p);
                const T* next = one_tile ? weights + kForwardAheadBytes / static_cast<std::int64_t>(sizeof(T))
                                         : following(product, w, k, p, group, panel, pass_end);
                const ForwardAhead<T> ahead(next, w.panel_size(), panels, steps, tile_count);
                std::int64_t index = 0;
                product.kernels.for_tiles(row_count, [&](std::int64_t row, const ForwardTile<C>& tile) {
                    const ForwardRows rows = rows_from(row, tile.rows);
                    const std::byte* from = rows.data + step * product.step_bytes();
                    const bool whole = tile.panels == panels;
                    ForwardPlace c = results.place(row, tile.rows, p * kWidth, panels * kWidth, blocks > 1,
                                                   whole && tile.rounded != nullptr);
                    if (c.data == nullptr) c = {scratch + (row * pass + (p - panel)) * kWidth, pass * kWidth, false};
                    if (whole) {
                        (c.rounded ? tile.rounded : tile.wide)(steps, from, rows.stride, weights, w.panel_size(),
                                                               ahead.of(index), ahead.stride(), c.data, c.stride,
                                                               k > 0);
                    } else {
                        for (std::int64_t q = 0; q < panels; ++q) {
                            tile.narrow(steps, from, rows.stride, weights + q * w.panel_size(), 0, ahead.of(index),
                                        ahead.stride(), static_cast<C*>(c.data) + q * kWidth, c.stride, k > 0);
                        }
                    }
                    if (k + 1 == blocks) results.take(c, row, tile.rows, p * kWidth, panels * kWidth);
                    ++index;
                });
            }
        }
    }
}

}  // namespace lowrank::cpu::detail
