// lowrank - the decompositions and the solvers below them, compiled once for lowrank::compiled.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/compiled/decompose.hpp>

namespace lowrank::cpu {
LOWRANK_SOLVERS(template, float)
LOWRANK_SOLVERS(template, double)
LOWRANK_DECOMPOSE(template, float)
LOWRANK_DECOMPOSE(template, double)
LOWRANK_DECOMPOSE(template, bf16)
LOWRANK_DECOMPOSE(template, f16)
}  // namespace lowrank::cpu
