// lowrank - the decompositions in a weighted norm, compiled once for lowrank::compiled.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/compiled/decompose_calibrated.hpp>

namespace lowrank::cpu {
LOWRANK_DECOMPOSE_WEIGHTED(template, float)
LOWRANK_DECOMPOSE_WEIGHTED(template, double)
LOWRANK_DECOMPOSE_WEIGHTED(template, bf16)
LOWRANK_DECOMPOSE_WEIGHTED(template, f16)
}  // namespace lowrank::cpu
