// lowrank - decompose() on the CPU: weight in, factors out.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/exact_decompose.hpp>
#include <lowrank/cpu/fast_decompose.hpp>
#include <lowrank/cpu/weight_scale.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/spectrum.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cpu {

namespace detail {

/// Undoes the scaling of the weight: W2 and the singular values carry it.
template <ComputeScalar T>
void unscale(const Context& context, Factors<T>& factors, int exponent, const std::string& name) {
    if (exponent == 0) return;
    for (T& s : factors.singular_values) s = std::ldexp(s, exponent);
    // Two powers of two, as one alone may leave the range.
    const T half = std::ldexp(T{1}, exponent / 2);
    const T rest = std::ldexp(T{1}, exponent - exponent / 2);
    std::atomic<bool> overflow{false};
    context.parallel_for(factors.w2.rows(), [&](std::int64_t i) {
        T* row = factors.w2.row(i);
        bool finite = true;
        for (std::int64_t j = 0; j < factors.w2.cols(); ++j) {
            row[j] = row[j] * half * rest;
            finite = finite && is_finite(row[j]);
        }
        if (!finite) overflow.store(true, std::memory_order_relaxed);
    });
    if (overflow) {
        throw ValueError("the factors of " + name + " overflow its type: its entries are near the largest number; " +
                         "scale the weight down");
    }
}

// Below this order an exact decomposition is short enough: 0.26 ms here, where the fast one takes 0.1 to 0.3 ms.
inline constexpr std::int64_t kFastFrom = 64;

// The largest block, as a part of the order, for which the fast method is chosen: near half the order it takes 0.3 to
// 0.5 of the exact one's time (Gaussian, float, orders 128 to 1024; as long at 64), at three quarters 0.9. And the
// first one tried by rules that do not know their rank yet.
inline constexpr std::int64_t kFastUpTo = 2;
inline constexpr std::int64_t kFirstTry = 8;

// Exponents of weights that are factorised where they lie: the squares of their entries, summed, stay within float.
inline constexpr int kModerateExponent = 40;

inline bool fast_pays(std::int64_t order, std::int64_t rank, Method method) {
    if (method == Method::exact || rank + lowrank::detail::oversampling(rank) > order) return false;
    if (method == Method::fast) return true;
    return order >= kFastFrom && rank + lowrank::detail::oversampling(rank) <= order / kFastUpTo;
}

/// The first block that a rule is tried with that does not know its rank yet.
inline std::int64_t first_try(std::int64_t order) {
    return std::max<std::int64_t>(kFastFrom / 2, order / kFirstTry);
}

/// Whether with_leading_part() will try at all.
inline bool fast_may_serve(std::int64_t rows, std::int64_t cols, const DecomposeOptions& options) {
    const std::int64_t order = std::min(rows, cols);
    return fast_pays(order,
                     options.rank.needs_spectrum() ? first_try(order) : choose_rank(options.rank, rows, cols).rank,
                     options.method);
}

/// Calls `use(part, rank)` for the rank that the options ask for of a d_in x d_out weight, in either order, of that
/// squared norm; `leading(rank)` is the LeadingPart, if there is one. False if the fast method does not serve: then
/// `use` was not called.
template <class Leading, class Use>
bool with_leading_part(std::int64_t rows, std::int64_t cols, double squared_norm, const DecomposeOptions& options,
                       Leading&& leading, Use&& use) {
    const std::int64_t order = std::min(rows, cols);
    if (!options.rank.needs_spectrum()) {
        const RankChoice choice = choose_rank(options.rank, rows, cols);
        if (!fast_pays(order, choice.rank, options.method)) return false;
        const auto part = leading(choice.rank);
        if (part) use(*part, choice.rank);
        return part.has_value();
    }
    // A block that grows until it holds the rank: all tries before the last cost less than the last.
    for (std::int64_t limit = first_try(order); fast_pays(order, limit, options.method); limit *= 2) {
        const auto part = leading(limit);
        if (!part) return false;
        const std::vector<double> s = singular_values(part->extraction.ritz_values, limit);
        const auto choice = try_choose_rank(options.rank, rows, cols, {s, squared_norm});
        if (!choice || choice->rank > limit) continue;
        use(*part, choice->rank);
        return true;
    }
    return false;
}

template <Scalar S>
std::optional<Factors<compute_t<S>>> fast_factors(const Context& context, MatrixView<const S> a,
                                                  const WeightScale& scale, int exponent,
                                                  const DecomposeOptions& options) {
    using C = compute_t<S>;
    const bool in_out = options.layout == WeightLayout::in_out;
    std::optional<Factors<C>> result;
    const auto leading = [&](std::int64_t rank) { return leading_part(context, a, scale, exponent, rank, options); };
    with_leading_part(
        a.rows(), a.cols(), scale.squared_norm, options, leading, [&](const auto& part, std::int64_t rank) {
            Factors<C>& factors =
                result.emplace(factors_from(context, part.extraction, rank, in_out == (a.rows() >= a.cols())));
            factors.excess = part.excess;
            const double tail = scale.squared_norm - lowrank::detail::sum_of_leading(part.extraction.ritz_values, rank);
            factors.relative_error =
                relative_residual(context, a, std::ldexp(C{1}, -exponent), options.layout, factors, tail, scale);
            if (!options.singular_values) factors.singular_values.clear();
        });
    return result;
}

/// W = 0: any orthonormal W1 and W2 = 0 are exact.
template <ComputeScalar T>
Factors<T> zero_factors(std::int64_t d_in, std::int64_t d_out, const DecomposeOptions& options) {
    const std::vector<double> zeros(static_cast<std::size_t>(std::min(d_in, d_out)));
    const RankChoice choice = choose_rank(options.rank, d_in, d_out, {zeros, 0});
    Factors<T> factors;
    factors.w1 = Matrix<T>(d_in, choice.rank);
    factors.w2 = Matrix<T>(choice.rank, d_out);
    for (std::int64_t k = 0; k < choice.rank; ++k) factors.w1(k, k) = 1;
    if (options.singular_values) factors.singular_values.assign(zeros.size(), T{0});
    return factors;
}

}  // namespace detail

/// Factorises a d_in x d_out weight: W ~ W1 W2. See <lowrank/decompose.hpp>.
template <Scalar S>
Factors<compute_t<S>> decompose_weight(const Context& context, MatrixView<const S> stored,
                                       const DecomposeOptions& options) {
    using C = compute_t<S>;
    const WeightScale scale = weight_scale(context, stored, options.name);
    const bool in_out = options.layout == WeightLayout::in_out;
    if (scale.is_zero()) {
        return detail::zero_factors<C>(in_out ? stored.rows() : stored.cols(), in_out ? stored.cols() : stored.rows(),
                                       options);
    }
    std::optional<Factors<C>> factors;
    const bool moderate = std::abs(scale.exponent) <= detail::kModerateExponent;
    if (moderate) factors = detail::fast_factors(context, stored, scale, scale.exponent, options);
    if (!factors) {
        const Matrix<C> weight = scaled_copy(context, stored, scale.exponent);
        // The copy is worth another try where the stored type or its range was the obstacle.
        if (!moderate || !std::is_same_v<S, C>) {
            factors = detail::fast_factors(context, weight.view(), scale, 0, options);
        }
        if (!factors) factors = detail::exact_factors(context, weight, scale, options);
    }
    detail::unscale(context, *factors, scale.exponent, options.name);
    return std::move(*factors);
}

/// Whether weights of this size are decomposed side by side, each on one thread: the products of small ones are too
/// short to share. On two threads that is 2 times as fast at order 64, 1.25 at 512, 1.16 at 1024 and 1.05 from 1536 on,
/// where it no longer pays for the memory of several at once.
inline bool batch_side_by_side(const Context& /*context*/, std::int64_t rows, std::int64_t cols) {
    return std::min(rows, cols) <= 1024;
}

/// The leading singular values of a weight. See <lowrank/decompose.hpp>.
template <Scalar S>
Spectrum decompose_weight_spectrum(const Context& context, MatrixView<const S> stored, std::int64_t most,
                                   const DecomposeOptions& options) {
    DecomposeOptions values = options;
    values.rank = fixed_rank(most);
    values.singular_values = true;
    const auto factors = decompose_weight(context, stored, values);
    const WeightScale scale = weight_scale(context, stored, options.name);
    return lowrank::detail::spectrum_of(factors, most, std::ldexp(scale.squared_norm, 2 * scale.exponent));
}

}  // namespace lowrank::cpu

#include <lowrank/cpu/compiled/decompose.hpp>  // below what it announces
