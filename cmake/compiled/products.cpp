// lowrank - the products, compiled once for lowrank::compiled.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/compiled/products.hpp>

namespace lowrank::cpu::detail {
LOWRANK_PRODUCTS(template)
}  // namespace lowrank::cpu::detail
