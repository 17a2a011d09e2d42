// lowrank - the full singular value decomposition of a matrix of floats by the eigenvalues of its Gram matrix in
// double. SPDX-License-Identifier: MIT
//
// The Gram matrix squares what it rounds: eigenvalues of the float matrix would lose half of the digits, but double has
// them twice. With e = 2^-53 and A m x n, m >= n, G = A^T A is known to n e |A|^2, so that a singular value s is off by
// no more than min(n e |A|^2 / s, sqrt(n e) |A|), below n ulp |A| of float: as backward stable as a decomposition in
// float. U = A V diag(s)^-1 is orthonormal but for n e |A|^2 / (s_i s_j), which a Cholesky-QR in double takes out.
// Columns of singular values below sqrt(n e) |A|, of which the Gram matrix says nothing, are any that complete U.
#pragma once

#include <lowrank/cpu/column_products.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/orthonormalize.hpp>
#include <lowrank/cpu/svd_result.hpp>
#include <lowrank/cpu/symmetric_eigen.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace lowrank::cpu::detail {

/// to = from^T, narrowed.
inline void narrow_transposed(const Context& context, const Matrix<double>& from, Matrix<float>& to) {
    constexpr std::int64_t kBlock = 64;  // rows of `from`, whose columns then come from the cache
    context.parallel_for(ceil_div(from.rows(), kBlock), [&](std::int64_t part) {
        const std::int64_t end = std::min((part + 1) * kBlock, from.rows());
        for (std::int64_t j = 0; j < from.cols(); ++j) {
            for (std::int64_t i = part * kBlock; i < end; ++i) to(j, i) = static_cast<float>(from(i, j));
        }
    });
}

/// Every singular value and vector of A, which is finite and not empty. About 6 min(m, n)^2 + 2 m n doubles of memory.
/// The same for any number of threads. Throws BackendError if the eigenvalue iteration does not converge.
inline Svd<float> gram_svd(const Context& context, MatrixView<const float> a) {
    const bool wide = a.cols() > a.rows();
    const std::int64_t n = std::min(a.rows(), a.cols());
    const std::int64_t m = std::max(a.rows(), a.cols());
    auto g = Matrix<double>::uninitialized(n, n);
    gram(context, 1.0, a, wide ? Transpose::no : Transpose::yes, 0.0, g.view());
    const Matrix<double> vt = symmetric_eigen<double>(context, g.view()).vt;
    auto u = Matrix<double>::uninitialized(m, n);
    gemm(context, 1.0, a, wide ? Transpose::yes : Transpose::no, vt, Transpose::yes, 0.0, u.view());

    std::vector<double> s = column_products(context, u, u);
    for (double& value : s) value = std::sqrt(value);
    const double unknown = std::sqrt(static_cast<double>(n) * std::numeric_limits<double>::epsilon() / 2) *
                           *std::max_element(s.begin(), s.end());
    context.parallel_for(m, [&](std::int64_t i) {
        for (std::int64_t j = 0; j < n; ++j) {
            const double norm = s[static_cast<std::size_t>(j)];
            u(i, j) = norm > unknown ? u(i, j) / norm
                                     : lowrank::detail::random_entry(0, static_cast<std::uint64_t>(i * n + j));
        }
    });
    Matrix<double>& scratch = g;
    scratch = Matrix<double>::uninitialized(m, n);
    orthonormalize(context, u, scratch, Orthonormal::roughly);

    Svd<float> result{Matrix<float>::uninitialized(n, wide ? n : m), Matrix<float>::uninitialized(n, wide ? m : n),
                      std::vector<float>(s.size())};
    narrow_transposed(context, u, wide ? result.vt : result.ut);
    Matrix<float>& short_side = wide ? result.ut : result.vt;
    context.parallel_for(n, [&](std::int64_t k) {
        std::transform(vt.row(k), vt.row(k) + n, short_side.row(k),
                       [](double value) { return static_cast<float>(value); });
    });
    // By the norms: more accurate than the eigenvalues, and out of order by rounding only.
    for (std::size_t k = 0; k < s.size(); ++k) {
        if (k > 0) s[k] = std::min(s[k], s[k - 1]);
        result.s[k] = static_cast<float>(s[k]);
    }
    return result;
}

}  // namespace lowrank::cpu::detail
