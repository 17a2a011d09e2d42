// lowrank - the products that lowrank::compiled has compiled already.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

/// `KIND` is `extern template` where these are announced, `template` where they are compiled.
#define LOWRANK_PRODUCT(KIND, SA, SB, E)                                                                        \
    KIND void product(const Context&, Part, Operands, E, MatrixView<const SA>, Transpose, MatrixView<const SB>, \
                      Transpose, E, MatrixView<E>);
#define LOWRANK_PRODUCTS_WITH(KIND, SA)     \
    LOWRANK_PRODUCT(KIND, SA, float, float) \
    LOWRANK_PRODUCT(KIND, SA, bf16, float)  \
    LOWRANK_PRODUCT(KIND, SA, f16, float)
#define LOWRANK_PRODUCTS(KIND)                    \
    LOWRANK_PRODUCTS_WITH(KIND, float)            \
    LOWRANK_PRODUCTS_WITH(KIND, bf16)             \
    LOWRANK_PRODUCTS_WITH(KIND, f16)              \
    LOWRANK_PRODUCT(KIND, double, double, double) \
    LOWRANK_PRODUCT(KIND, double, float, double)  \
    LOWRANK_PRODUCT(KIND, float, double, double)  \
    LOWRANK_PRODUCT(KIND, float, float, double)

#ifdef LOWRANK_COMPILED
namespace lowrank::cpu::detail {
LOWRANK_PRODUCTS(extern template)
}  // namespace lowrank::cpu::detail
#endif
