// lowrank - a row of X as the forward kernels read it, where X itself is not.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/pack.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace lowrank::cpu::detail {

/// Writes `depth` elements in their order, and zeros behind them up to `entries` entries in all. An entry is an element
/// as P, or a pair of bf16.
template <class P, class S>
void pack_row(Isa isa, const S* from, std::int64_t depth, std::int64_t entries, P* to) {
    if constexpr (kElementsPerStep<S, P> == 2) {
        const auto bytes = static_cast<std::size_t>(depth) * sizeof(S);
        if (depth > 0) std::memcpy(to, from, bytes);
        std::memset(reinterpret_cast<std::byte*>(to) + bytes, 0, static_cast<std::size_t>(entries) * sizeof(P) - bytes);
    } else {
        // A panel of one step, as wide as the row is long.
        const PackSource<S> lanes{from, 0, true, depth, 1};
        if (depth > 0) pack_panel<P>(isa, lanes, to, static_cast<int>(depth));
        std::fill(to + depth, to + entries, P{});
    }
}

}  // namespace lowrank::cpu::detail
