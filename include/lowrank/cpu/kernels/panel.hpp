// lowrank - the width of a packed panel.
// SPDX-License-Identifier: MIT
#pragma once

namespace lowrank::cpu::detail {

/// Columns of a packed panel: one cache line of accumulators.
template <class Element>
inline constexpr int kPanelWidth = static_cast<int>(64 / sizeof(Element));

}  // namespace lowrank::cpu::detail
