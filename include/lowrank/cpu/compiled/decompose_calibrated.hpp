// lowrank - the decompositions in a weighted norm that lowrank::compiled has compiled already.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/calibrated_factors.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose_calibrated.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

/// `KIND` is `extern template` where these are announced, `template` where they are compiled.
#define LOWRANK_DECOMPOSE_WEIGHTED(KIND, S)                                                                        \
    KIND CalibratedFactors<compute_t<S>> decompose_weighted(const Context&, MatrixView<const S>, const Weighting&, \
                                                            const DecomposeOptions&);

#ifdef LOWRANK_COMPILED
namespace lowrank::cpu {
LOWRANK_DECOMPOSE_WEIGHTED(extern template, float)
LOWRANK_DECOMPOSE_WEIGHTED(extern template, double)
LOWRANK_DECOMPOSE_WEIGHTED(extern template, bf16)
LOWRANK_DECOMPOSE_WEIGHTED(extern template, f16)
}  // namespace lowrank::cpu
#endif
