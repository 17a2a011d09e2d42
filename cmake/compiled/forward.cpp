// lowrank - the forward products, compiled once for lowrank::compiled.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/compiled/forward.hpp>

namespace lowrank::cpu {
LOWRANK_FORWARDS(template)
}  // namespace lowrank::cpu
