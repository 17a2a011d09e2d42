// lowrank - CalibratedFactors: what a decomposition in a weighted norm returns.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/factors.hpp>

#include <vector>

namespace lowrank {

/// Factors that are closest in a weighted norm ||A||_w = ||S_H^T A S_G||_F; `excess` refers to that norm, and
/// `relative_error` is the plain one, ||W - W1 W2||_F / ||W||_F. `singular_values` are empty: `spectrum` has them.
template <ComputeScalar T>
struct CalibratedFactors : Factors<T> {
    double weighted_error = 0;     ///< ||W - W1 W2||_w / ||W||_w; 0 for a zero weight
    double weighted_norm = 0;      ///< ||W||_w, for H and G that are means over tokens
    std::vector<double> spectrum;  ///< singular values of S_H^T W S_G as `singular_values` would be, in the same scale
};

}  // namespace lowrank
