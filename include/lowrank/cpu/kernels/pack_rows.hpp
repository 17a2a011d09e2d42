// lowrank - packing the rows of X, or of the intermediate, for the forward kernels.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/pack.hpp>
#include <lowrank/scalar.hpp>

#include <cstdint>
#include <cstring>

namespace lowrank::cpu::detail {

/// One row: its elements in order, `entries` of them, zero beyond its depth.
template <class P, class S>
void pack_one_row(Isa isa, const PackSource<S>& row, std::int64_t entries, P* to) {
    if constexpr (kElementsPerStep<S, P> == 2) {
        std::memcpy(to, row.data, static_cast<std::size_t>(row.depth) * sizeof(S));
        std::memset(reinterpret_cast<std::byte*>(to) + row.depth * static_cast<std::int64_t>(sizeof(S)), 0,
                    static_cast<std::size_t>(2 * entries - row.depth) * sizeof(S));
    } else {
        const PackSource<S> lanes{row.data, 0, true, row.depth, 1};
        pack_panel<P>(isa, lanes, to, static_cast<int>(row.depth));
        std::fill(to + row.depth, to + entries, P{});
    }
}

/// Packs `width` rows, of which the source has `lanes` (the others come out as anything): for each of `entries` entries
/// of the inner dimension the rows' values side by side. An entry is an element as P, or a pair of bf16; those beyond
/// the source's depth are zero. Writes up to kPackSlack values more.
template <class P, class S>
void pack_rows(Isa isa, const PackSource<S>& rows, int width, std::int64_t entries, P* to) {
    if (rows.depth == 0) {
        std::fill(to, to + entries * width, P{});
    } else if (width == 1) {
        pack_one_row<P>(isa, rows, entries, to);
    } else {
        pack_panel<P>(isa, rows, to, width);
        const std::int64_t packed = (rows.depth + kElementsPerStep<S, P> - 1) / kElementsPerStep<S, P>;
        std::fill(to + packed * width, to + entries * width, P{});
    }
}

}  // namespace lowrank::cpu::detail
