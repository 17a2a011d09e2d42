// lowrank - the decomposition in a weighted norm on the CPU: weight and weighting in, factors out.
// SPDX-License-Identifier: MIT
//
// See <lowrank/decompose_calibrated.hpp> for the mathematics.
#pragma once

#include <lowrank/calibrated_factors.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose.hpp>
#include <lowrank/cpu/fast_decompose.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/long_side.hpp>
#include <lowrank/cpu/residual.hpp>
#include <lowrank/cpu/root_in.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/cpu/symmetric_operator.hpp>
#include <lowrank/cpu/weight_scale.hpp>
#include <lowrank/cpu/weighted_gram.hpp>
#include <lowrank/cpu/weighted_roots.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/scalar.hpp>
#include <lowrank/subspace_model.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace lowrank::cpu {

namespace detail {

/// ||W - W1 W2||_F / ||W||_F
template <Scalar S>
double plain_error(const Context& context, MatrixView<const S> stored, WeightLayout layout, const WeightScale& scale,
                   const Factors<compute_t<S>>& factors) {
    using T = compute_t<S>;
    if (scale.is_zero()) return 0;
    // The mean square sum of what rounded operands do to the products: twice the mean square error of an element of a
    // lane of norm 1, times ||W1||^2 ||W2||^2. It adds to the sum of the rest's squares, and to each entry's own with a
    // random sign. Where that might be seen nothing is rounded.
    const double added = rounding_variance<T>(context.isa()) / kBlockSteps *
                         squared_norm(context, const_view(factors.w1)) * squared_norm(context, const_view(factors.w2));
    const auto is_unseen = [&](double squares) {
        constexpr double kUnseen = 4e-6;  // 2e-6 of the error, of which four digits are shown
        const auto entries = static_cast<double>(stored.rows()) * static_cast<double>(stored.cols());
        return added + 2 * std::sqrt(added * squares / entries) < kUnseen * squares;
    };
    const double most = std::ldexp(scale.squared_norm, 2 * scale.exponent);
    double squared = 0;
    if (added > 0 && is_unseen(most)) {
        squared = squared_residual(context, stored, T{1}, layout, factors, Operands::rounded);
    }
    if (!is_unseen(squared)) squared = squared_residual(context, stored, T{1}, layout, factors);
    return std::ldexp(std::sqrt(squared / scale.squared_norm), -scale.exponent);
}

// From this ratio of the sides on, products with the longer side's statistics cost less than their root and what
// follows from it: 7.3 against 7.5 cubes of the shorter side, and less still where they are rounded.
inline constexpr double kGramFromRatio = 1.5;

/// By the eigenvectors of `gram`. Nothing where the fast method does not serve, or where the rounding of the
/// matrix would take more than `most_lost` of the excess or leave too little of it.
template <ComputeScalar T>
std::optional<CalibratedFactors<T>> factors_by_eigenvectors(const Context& context, const WeightedGram<T>& gram,
                                                            bool shorter_is_input, double most_lost,
                                                            const DecomposeOptions& options) {
    const std::int64_t order = gram.matrix().rows();
    const std::int64_t long_side = gram.length();
    const double trace = gram.trace();
    if (!(trace > 0) || !is_finite(trace)) return std::nullopt;
    std::optional<double> error;  // mean square, of K's entries
    double lost = 0;              // to it, of the energy
    const auto leading = [&](std::int64_t rank) -> std::optional<LeadingPart<LeadingPairs<T>>> {
        const auto problem = subspace_problem<T>(order, long_side, rank, trace, options.excess);
        SymmetricOperator<T> k(context, gram.matrix(), options.seed);
        auto part = iterate(k, problem);
        if (!part) return std::nullopt;
        const std::vector<double>& theta = part->extraction.ritz_values;
        const double tail = trace - lowrank::detail::sum_of_leading(theta, rank);
        if (!error) error = gram.entry_error(options.seed);
        lost = gram.lost_to_rounding(theta, problem, *error);
        const double of_root = lost / (2 * tail);  // the excess is of the tail's square root
        part->excess += of_root;
        if (!(of_root <= most_lost * options.excess) || !(part->excess <= options.excess)) return std::nullopt;
        return part;
    };
    std::optional<CalibratedFactors<T>> result;
    with_leading_part(
        order, long_side, trace, options, leading, [&](const LeadingPart<LeadingPairs<T>>& part, std::int64_t rank) {
            CalibratedFactors<T>& factors = result.emplace();
            gram.write_factors(part.extraction, rank, shorter_is_input, factors);
            factors.method = Method::fast;
            factors.excess = part.excess;
            const std::vector<double>& theta = part.extraction.ritz_values;
            factors.weighted_error = std::sqrt((gram.tail(part.extraction, rank) + lost) / trace);
            factors.weighted_norm = std::ldexp(std::sqrt(trace), gram.exponent());
            if (!options.singular_values) return;
            double last = theta.front();
            for (std::int64_t i = 0; i < rank; ++i) {
                last = std::min(last, theta[static_cast<std::size_t>(i)]);  // equal ones differ by their rounding
                factors.spectrum.push_back(std::ldexp(std::sqrt(last), gram.exponent()));
            }
        });
    return result;
}

/// By the shorter side's weighted Gram matrix, from rounded products where these serve. Nothing where the roots cost
/// less, or where none serves.
template <Scalar S>
std::optional<CalibratedFactors<compute_t<S>>> factors_by_weighted_gram(const Context& context,
                                                                        MatrixView<const S> stored,
                                                                        const WeightScale& scale,
                                                                        const Weighting& weighting,
                                                                        const DecomposeOptions& options) {
    using T = compute_t<S>;
    const std::int64_t order = std::min(stored.rows(), stored.cols());
    const std::int64_t long_side = std::max(stored.rows(), stored.cols());
    const bool shorter_is_input = (options.layout == WeightLayout::in_out) == (stored.rows() <= stored.cols());
    SideWeighting& shorter = shorter_is_input ? weighting.input : weighting.gradient;
    const SideWeighting& longer = shorter_is_input ? weighting.gradient : weighting.input;
    if (longer.identity() || static_cast<double>(long_side) < kGramFromRatio * static_cast<double>(order) ||
        scale.is_zero() || std::abs(scale.exponent) > kModerateExponent || !fast_may_serve(order, long_side, options)) {
        return std::nullopt;
    }
    const RootIn<T> root(context, shorter.root(context), order);
    Matrix<T> widened;
    MatrixView<const T> a;
    if constexpr (std::is_same_v<S, T>) {
        a = stored;
    } else {
        widened = scaled_copy(context, stored, 0);
        a = widened.view();
    }
    const LongSide<T> side(context, a, scale.exponent, longer);
    const auto factors = [&](Operands operands, double most_lost) {
        const WeightedGram<T> gram(context, side, root, operands);
        return factors_by_eigenvectors(context, gram, shorter_is_input, most_lost, options);
    };
    if (rounding_variance<T>(context.isa()) > 0) {
        if (auto rounded = factors(Operands::rounded, kProductRoundingPart)) return rounded;
    }
    return factors(Operands::exact, 1);
}

}  // namespace detail

/// Factorises a d_in x d_out weight in the norm of `weighting`, whose sides must be d_in and d_out wide.
template <Scalar S>
CalibratedFactors<compute_t<S>> decompose_weighted(const Context& context, MatrixView<const S> stored,
                                                   const Weighting& weighting, const DecomposeOptions& options) {
    const bool in_out = options.layout == WeightLayout::in_out;
    const std::int64_t d_in = in_out ? stored.rows() : stored.cols();
    const std::int64_t d_out = in_out ? stored.cols() : stored.rows();
    if (stored.empty())
        throw ShapeError(options.name + ", " + shape_string(d_in, d_out) + ", has nothing to factorise");
    if (!options.rank.needs_spectrum()) static_cast<void>(choose_rank(options.rank, d_in, d_out));
    const WeightScale scale = weight_scale(context, stored, options.name);  // refuses NaN and infinity
    auto factors = detail::factors_by_weighted_gram(context, stored, scale, weighting, options);
    if (!factors) {
        factors = detail::WeightedRoots<compute_t<S>>(context, stored, weighting, options).run();
    }
    factors->relative_error = detail::plain_error(context, stored, options.layout, scale, *factors);
    return std::move(*factors);
}

}  // namespace lowrank::cpu

#include <lowrank/cpu/compiled/decompose_calibrated.hpp>  // below what it announces
