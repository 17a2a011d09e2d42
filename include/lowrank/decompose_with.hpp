// lowrank - decompose(context, weight, options) and decompose_spectrum(): the entry points for whichever backend the
// context stands for. Apart from <lowrank/decompose.hpp> so that code for another backend need not include the CPU's
// decomposition.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/decompose_options.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/spectrum.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

namespace lowrank {

/// Factorises `weight` on the backend that `context` stands for. `weight` is W (d_in x d_out) or, with
/// `.layout = WeightLayout::out_in`, W^T (d_out x d_in), row-major either way.
template <class Context, class Weight>
requires Scalar<element_t<Weight>>
auto decompose(Context& context, const Weight& weight, const DecomposeOptions& options) {
    const auto stored = const_view(weight);
    const bool in_out = options.layout == WeightLayout::in_out;
    const std::int64_t d_in = in_out ? stored.rows() : stored.cols();
    const std::int64_t d_out = in_out ? stored.cols() : stored.rows();
    if (!(options.excess > 0) || !is_finite(options.excess)) {
        throw ValueError("the excess allowed for " + options.name + " must be above 0, such as 1e-3, not " +
                         std::to_string(options.excess));
    }
    if (stored.empty())
        throw ShapeError(options.name + ", " + shape_string(d_in, d_out) + ", has nothing to factorise");
    // A rank that the shape alone rules out is refused before any work.
    if (!options.rank.needs_spectrum()) static_cast<void>(choose_rank(options.rank, d_in, d_out));
    return decompose_weight(context, stored, options);  // found by argument-dependent look-up from the context
}

/// The largest `most` singular values of `weight`, once for many rank rules: choose_rank(rule, d_in, d_out, spectrum).
/// `options.rank` is not read. Errors as for decompose().
template <class Context, class Weight>
requires Scalar<element_t<Weight>> Spectrum decompose_spectrum(Context& context, const Weight& weight,
                                                               std::int64_t most, const DecomposeOptions& options) {
    const auto stored = const_view(weight);
    if (stored.empty()) {
        throw ShapeError(options.name + ", " + shape_string(stored.rows(), stored.cols()) + ", has no singular values");
    }
    static_cast<void>(choose_rank(fixed_rank(most), stored.rows(), stored.cols()));
    return decompose_weight_spectrum(context, stored, most, options);
}

template <class Context, class Weight>
requires Scalar<element_t<Weight>> Spectrum decompose_spectrum(Context& context, const Weight& weight,
                                                               std::int64_t most) {
    return decompose_spectrum(context, weight, most, {.rank = fixed_rank(most)});
}

namespace detail {

inline void require_options(std::size_t weights, std::size_t options) {
    if (weights == options) return;
    throw ShapeError(std::to_string(weights) + " weights cannot be decomposed with " + std::to_string(options) +
                     " options");
}

}  // namespace detail

}  // namespace lowrank
