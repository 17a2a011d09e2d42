// lowrank - the fast decomposition on the device: subspace iteration over cuBLAS and cuSOLVER.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/gram_operator.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/scratch.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/weight.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/subspace_iteration.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace lowrank::cuda::detail {

/// Whether the fast method is asked for, or worth it, and possible for a rank that the shape tells. The limits are the
/// CPU's: blocks beyond half of the order cost what the exact method does.
inline bool wants_fast(const DecomposeOptions& options, std::int64_t rows, std::int64_t cols) {
    if (options.method == Method::exact || options.rank.needs_spectrum()) return false;
    const std::int64_t order = std::min(rows, cols);
    const std::int64_t rank = choose_rank(options.rank, rows, cols).rank;
    const std::int64_t columns = rank + lowrank::detail::oversampling(rank);
    if (options.method == Method::fast) return columns < order;
    return order >= 64 && columns <= order / 2;
}

/// W1 and W2 from leading triplets of the tall weight: W1 orthonormal, W2 with the singular values.
template <Scalar T>
void assemble(Context& context, const Scratch& scratch, const LoadedWeight<T>& weight,
              LeadingTriplets<compute_t<T>>& triplets, const std::vector<compute_t<T>>& s, Slot<compute_t<T>> scales,
              Factors<compute_t<T>, DeviceSpace>& factors) {
    using C = compute_t<T>;
    const auto rank = static_cast<std::int64_t>(s.size());
    const std::int64_t d_in = weight.d_in();
    factors.w1 = Matrix<C, DeviceSpace>(d_in, rank);
    const C* left = triplets.short_side.data();
    if (weight.long_is_left()) {  // the singular values move from U to V
        std::vector<C> inverse(s.size());
        for (std::size_t i = 0; i < s.size(); ++i) inverse[i] = s[i] > 0 ? 1 / s[i] : 0;
        upload(context, inverse.data(), rank, scratch.at(scales));
        C* u = triplets.long_side.data();
        vendor::scale_columns<C>(context.blas(), weight.m(), rank, u, weight.m(), scratch.at(scales), u, weight.m(),
                                 weight.doing());
        upload(context, s.data(), rank, scratch.at(scales));
        C* v = triplets.short_side.data();
        vendor::scale_columns<C>(context.blas(), weight.n(), rank, v, weight.n(), scratch.at(scales), v, weight.n(),
                                 weight.doing());
        left = u;
    }
    vendor::copy_scaled<C>(context.blas(), rank, d_in, 1, {left, d_in, true}, factors.w1.data(), rank, weight.doing());
    factors.w2 = std::move(weight.long_is_left() ? triplets.short_side : triplets.long_side);
}

/// Nothing if the iteration cannot tell the tail from rounding, or does not get there: then the exact method must do.
template <Scalar T>
std::optional<Factors<compute_t<T>, DeviceSpace>> fast_factors(Context& context, DeviceView<const T> stored,
                                                               const DecomposeOptions& options) {
    using C = compute_t<T>;
    constexpr double kUlp = static_cast<double>(std::numeric_limits<C>::epsilon());
    Scratch scratch;
    LoadedWeight<T> weight(scratch, stored, options);
    const std::int64_t m = weight.m();
    const std::int64_t n = weight.n();
    const std::int64_t rank = choose_rank(options.rank, weight.d_in(), weight.d_out()).rank;
    const std::int64_t columns = lowrank::detail::block_columns(n, rank);
    const Slot<C> scales = scratch.add<C>(rank);
    weight.load(context, scratch);
    if (weight.zero() || columns == n) return std::nullopt;

    const double energy = weight.norm() * weight.norm();
    // Products of G that an excess of 1e-3 takes, by measurement of the same iteration on the CPU.
    constexpr int kExpectedProducts = 8;
    GramOperator<C> gram(context, scratch.at(weight.tall()), m, n, options.seed, columns, kExpectedProducts,
                         weight.doing());
    const lowrank::detail::SubspaceProblem problem{
        .order = n,
        .long_side = m,
        .rank = rank,
        .trace = energy,
        .excess = options.excess,
        // Rounding perturbs G by about u ||G||_F, and the captured energy by up to 2 sqrt(rank) times that; a tenth of
        // the allowed shortfall, 2 excess tail, may go there. Of ||G||_F <= energy, attained at rank one, typical
        // weights have a part of 1 / sqrt(n); four times that is assumed.
        .least_tail = 10 * std::sqrt(static_cast<double>(rank)) * (kUlp / 2) * 4 * energy /
                      std::sqrt(static_cast<double>(n)) / options.excess,
        .unit = std::numeric_limits<C>::epsilon(),
        // So that Cholesky-QR in the compute type stays possible: well below u^-1/2.
        .most_amplification = std::is_same_v<C, float> ? 100.0 : 1e6,
        // Of what is left then the orthonormalisation, with a Gram matrix in C, takes out some 1e3 (1e6) times a
        // column.
        .most_rotated = std::is_same_v<C, float> ? 1e9 : 1e18};
    auto result = lowrank::detail::SubspaceIteration<GramOperator<C>>(gram, problem).run();
    if (result.end != lowrank::detail::SubspaceEnd::converged) return std::nullopt;

    auto& triplets = result.extraction;
    std::vector<C> s;
    for (std::int64_t i = 0; i < rank; ++i) {
        s.push_back(static_cast<C>(std::sqrt(std::max(0.0, triplets.ritz_values[static_cast<std::size_t>(i)]))));
    }
    // The error by the residual itself: norms in float are too coarse to be subtracted, and the product is cheap here.
    C* rest = scratch.at(weight.spare());
    vendor::copy_scaled<C>(context.blas(), m, n, 1, {scratch.at(weight.tall()), m}, rest, m, weight.doing());
    vendor::gemm<C>(context.blas(), m, n, rank, -1, {triplets.long_side.data(), m},
                    {triplets.short_side.data(), n, true}, 1, rest, m, weight.doing());
    const auto error = static_cast<double>(vendor::norm(context.blas(), m * n, rest, weight.doing()));

    Factors<C, DeviceSpace> factors;
    assemble<T>(context, scratch, weight, triplets, s, scales, factors);
    factors.relative_error = error / weight.norm();
    factors.excess = result.excess;
    factors.method = Method::fast;
    if (options.singular_values) factors.singular_values = s;
    weight.unscale(context, scratch, factors, static_cast<double>(s.front()));
    context.synchronise(weight.doing());
    return factors;
}

}  // namespace lowrank::cuda::detail
