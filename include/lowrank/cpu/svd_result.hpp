// lowrank - what a full singular value decomposition gives.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <vector>

namespace lowrank::cpu {

/// A = U diag(s) V^T, thin: U is rows x k, V is cols x k, k = min(rows, cols), both column by column in memory, so
/// that `ut` and `vt` are row-major k x rows and k x cols.
template <ComputeScalar T>
struct Svd {
    Matrix<T> ut;
    Matrix<T> vt;
    std::vector<T> s;  ///< descending
};

}  // namespace lowrank::cpu
