// lowrank - how large the errors of a computed matrix are, by products with few random vectors.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>

#include <cstdint>
#include <numeric>

namespace lowrank::cpu::detail {

inline constexpr std::int64_t kProbes = 2;

/// rows x kProbes random signs.
inline Matrix<double> random_probes(std::int64_t rows, std::uint64_t seed) {
    auto v = Matrix<double>::uninitialized(rows, kProbes);
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t k = 0; k < kProbes; ++k) {
            v(i, k) = lowrank::detail::random_sign(seed, static_cast<std::uint64_t>(i * kProbes + k));
        }
    }
    return v;
}

/// Estimate of the mean square of the errors of a's entries, from probes v and `exact`, the product with them that A
/// should have: ||(a - A) v||^2 has the mean ||a - A||_F^2 for random signs v (Girard 1989, Hutchinson 1990).
template <ComputeScalar T>
double mean_square_error(const Context& context, const Matrix<T>& a, const Matrix<double>& v, Matrix<double> exact) {
    gemm(context, -1.0, a, Transpose::no, v, Transpose::no, 1.0, exact.view());
    const double squares = std::inner_product(exact.data(), exact.data() + exact.size(), exact.data(), 0.0);
    return squares / kProbes / (static_cast<double>(a.rows()) * static_cast<double>(a.cols()));
}

}  // namespace lowrank::cpu::detail
