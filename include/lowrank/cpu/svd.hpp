// lowrank - the full singular value decomposition on the CPU.
// SPDX-License-Identifier: MIT
//
// float by the eigenvalues of the Gram matrix in double, double by Eigen's divide and conquer; in programs that link
// lowrank::lapack both by LAPACK's gesdd.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/eigen_svd.hpp>
#include <lowrank/cpu/gram_svd.hpp>
#include <lowrank/cpu/svd_result.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#ifdef LOWRANK_USE_LAPACK
#include <lowrank/cpu/lapack_svd.hpp>
#endif

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

namespace lowrank::cpu {

/// Every singular value and vector of A, to working accuracy. A must be finite; it may be empty. `name` is used in
/// messages. Complexity O(rows cols min(rows, cols)). Throws BackendError if no method converges.
template <ComputeScalar T>
Svd<T> full_svd(const Context& context, MatrixView<const T> a, const std::string& name) {
    if (a.empty()) {
        const std::int64_t k = std::min(a.rows(), a.cols());
        return {Matrix<T>(k, a.rows()), Matrix<T>(k, a.cols()), {}};
    }
#ifdef LOWRANK_USE_LAPACK
    if (auto svd = detail::lapack_svd<T>(a)) return std::move(*svd);
#endif
    if constexpr (std::is_same_v<T, float>) {
        return detail::gram_svd(context, a);
    } else {
        if (auto svd = detail::eigen_svd<T>(a)) return std::move(*svd);
        throw BackendError("the singular value decomposition of " + name + ", " + shape_string(a.rows(), a.cols()) +
                           ", did not converge");
    }
}

}  // namespace lowrank::cpu
