// lowrank - the width of a packed panel.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lowrank::cpu::detail {

inline constexpr std::int64_t kLineBytes = 64;

/// Columns of a packed panel: one cache line of accumulators.
template <class Element>
inline constexpr int kPanelWidth = static_cast<int>(kLineBytes / sizeof(Element));

}  // namespace lowrank::cpu::detail
