// lowrank - decompose(): W ~ W1 W2, the one entry point.
// SPDX-License-Identifier: MIT
//
// Mathematics. For W = U S V^T (d_in x d_out), W1 = U_r (d_in x r) and W2 = S_r V_r^T (r x d_out) are the closest of
// rank r in the Frobenius and in the spectral norm; the error is sqrt(sum_{i>r} s_i^2) (Eckart, Young 1936).
//
// Methods. Method::exact is the full decomposition, O(d_in d_out min(d_in, d_out)) with a large constant: of float by
// the eigenvalues of the Gram matrix in double, of double by Eigen's divide and conquer, with the target
// lowrank::lapack by LAPACK's gesdd (cpu/svd.hpp). Method::fast finds the leading part alone by filtered subspace
// iteration (subspace_iteration.hpp) on the smaller side's Gram matrix, with a block of 9/8 rank columns: on the CPU,
// from rank 56 on, in one pass as a rule, by a polynomial of degree 4 to 7 that is designed on what a few steps of
// Lanczos show of the spectrum (designed_pass.hpp), and by more until the estimated error is within (1 + excess) of the
// optimum. Where neither float nor double can tell (a weight of nearly that rank) it hands over to the exact method.
// Method::automatic takes the fast one for blocks of up to half of min(d_in, d_out). Factors::method says which it was,
// Factors::relative_error the error computed on the result.
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

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lowrank {

/// Many weights in one call, `options[i]` for `weights[i]`: decomposed side by side where they are small, one after the
/// other with all threads in each where they are large. Equal in bits to decomposing them one by one. All results are
/// in memory at the end; lowrank_model() hands them over one at a time. Throws ShapeError if the counts differ, else as
/// decompose(); nothing is returned then.
template <class Context, class Weights>
auto decompose_batch(Context& context, const Weights& weights, std::span<const DecomposeOptions> options) {
    const std::span batch(weights);
    detail::require_options(batch.size(), options.size());
    using Result = decltype(decompose(context, batch[0], options[0]));
    std::vector<Result> results(batch.size());
    const auto small = [&](std::size_t i) {
        const auto weight = const_view(batch[i]);
        return batch_side_by_side(context, weight.rows(), weight.cols());
    };
    std::vector<std::size_t> side_by_side;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (small(i)) {
            side_by_side.push_back(i);
        } else {
            results[i] = decompose(context, batch[i], options[i]);
        }
    }
    const auto serial = context.serial();
    context.parallel_for(static_cast<std::int64_t>(side_by_side.size()), [&](std::int64_t k) {
        const std::size_t i = side_by_side[static_cast<std::size_t>(k)];
        results[i] = decompose(serial, batch[i], options[i]);
    });
    return results;
}

/// The one-line form for those who do not care where it runs.
template <class Weight>
requires MatrixIn<Weight, HostSpace>
auto decompose(const Weight& weight, std::int64_t rank, WeightLayout layout = WeightLayout::in_out) {
    const cpu::Context context;
    return decompose(context, weight, {.rank = fixed_rank(rank), .layout = layout});
}

}  // namespace lowrank
