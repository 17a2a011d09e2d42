// lowrank - decompose(): W ~ W1 W2, the one entry point.
// SPDX-License-Identifier: MIT
//
// Mathematics. For W = U S V^T (d_in x d_out), W1 = U_r (d_in x r) and W2 = S_r V_r^T (r x d_out) are the closest of
// rank r in the Frobenius and in the spectral norm; the error is sqrt(sum_{i>r} s_i^2) (Eckart, Young 1936).
//
// Types. float and double weights compute in their own type, bf16 and f16 weights in float.
//
// Errors. ValueError: a NaN or an infinity in the weight (named by its place), a fixed rank below 1 or above
// min(d_in, d_out). ShapeError: an empty weight. BackendError: no solver converged. The input is never changed.
//
//     lowrank::cpu::Context cpu;
//     auto factors = lowrank::decompose(cpu, W, {.rank = lowrank::fixed_rank(384)});
//     auto half = lowrank::decompose(cpu, A, {.rank = lowrank::parameter_share(0.5),
//                                             .layout = lowrank::WeightLayout::out_in});   // PyTorch's weight
#pragma once

#include <lowrank/cpu/decompose.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/decompose_with.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <cstdint>

namespace lowrank {

/// The one-line form for those who do not care where it runs.
template <class Weight>
requires MatrixIn<Weight, HostSpace>
auto decompose(const Weight& weight, std::int64_t rank, WeightLayout layout = WeightLayout::in_out) {
    const cpu::Context context;
    return decompose(context, weight, {.rank = fixed_rank(rank), .layout = layout});
}

}  // namespace lowrank
