// lowrank - how large the errors of a computed matrix are, by products with few random vectors.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>
#include <lowrank/scalar.hpp>

#include <cstdint>
#include <numeric>

namespace lowrank::cpu::detail {

/// rows x count random signs.
inline Matrix<double> random_probes(std::int64_t rows, std::int64_t count, std::uint64_t seed) {
    auto v = Matrix<double>::uninitialized(rows, count);
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t k = 0; k < count; ++k) {
            v(i, k) = lowrank::detail::random_sign(seed, static_cast<std::uint64_t>(i * count + k));
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
    const auto entries = static_cast<double>(a.rows()) * static_cast<double>(a.cols());
    return squares / static_cast<double>(v.cols()) / entries;
}

}  // namespace lowrank::cpu::detail
