// lowrank - Factors: what a decomposition returns.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/matrix.hpp>
#include <lowrank/rank.hpp>

#include <cstdint>
#include <vector>

namespace lowrank {

/// How factors were, or are to be, obtained.
enum class Method : std::uint8_t {
    automatic,  ///< the fast method where the rank is well below full, else the exact one
    exact,      ///< a full singular value decomposition, to working accuracy
    fast,       ///< the leading part alone, with the error within (1 + excess) of the optimum
};

constexpr const char* method_name(Method method) {
    switch (method) {
        case Method::exact: return "exact";
        case Method::fast: return "fast";
        case Method::automatic: break;
    }
    return "automatic";
}

/// W ~ W1 W2, row-major, in the type that the decomposition computed in (float, or double for double weights).
template <ComputeScalar T, class Space = HostSpace>
struct Factors {
    Matrix<T, Space> w1;             ///< d_in x rank
    Matrix<T, Space> w2;             ///< rank x d_out
    std::vector<T> singular_values;  ///< descending; all of them (exact), or those kept, or none (see DecomposeOptions)
    double relative_error = 0;       ///< ||W - W1 W2||_F / ||W||_F, computed; 0 for W = 0
    /// Estimate of ||W - W1 W2||_F / (the least possible at this rank) - 1, 0 if exact. Over the spectra of
    /// tests/decompose_fast_test.cpp the truth is at most twice this (measured worst 1.9), down to the rounding of the
    /// weight; where no pass is designed (ranks below 56, orders below 192, or 384 from rank 228 on; devices) and the
    /// kept singular values lie close together above a gap, at most five times (3.7).
    double excess = 0;
    Method method = Method::exact;  ///< the one that made these factors; never `automatic`

    [[nodiscard]] std::int64_t d_in() const { return w1.rows(); }
    [[nodiscard]] std::int64_t d_out() const { return w2.cols(); }
    [[nodiscard]] std::int64_t rank() const { return w1.cols(); }
    [[nodiscard]] std::int64_t parameters() const { return low_rank_parameters(d_in(), d_out(), rank()); }
    [[nodiscard]] std::int64_t dense_parameters() const { return d_in() * d_out(); }
    /// False at or above the break-even rank: the layer should stay dense.
    [[nodiscard]] bool saves_parameters() const { return parameters() < dense_parameters(); }
};

}  // namespace lowrank
