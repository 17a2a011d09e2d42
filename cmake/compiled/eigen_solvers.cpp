// lowrank - Eigen's singular value decompositions, compiled once for lowrank::compiled.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/compiled/decompose.hpp>

namespace lowrank::cpu::detail {
LOWRANK_EIGEN_SOLVERS(template)
}  // namespace lowrank::cpu::detail
