// lowrank - factors by the full singular value decomposition.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/residual.hpp>
#include <lowrank/cpu/svd.hpp>
#include <lowrank/cpu/weight_scale.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace lowrank::cpu::detail {

/// W1 = U_r, W2 = S_r V_r^T of the scaled weight, with the rank chosen from all of its singular values.
template <ComputeScalar T>
Factors<T> exact_factors(const Context& context, const Matrix<T>& weight, const WeightScale& scale,
                         const DecomposeOptions& options) {
    const bool in_out = options.layout == WeightLayout::in_out;
    Svd<T> svd = full_svd<T>(context, weight.view(), options.name);
    const Matrix<T>& left = in_out ? svd.ut : svd.vt;
    const Matrix<T>& right = in_out ? svd.vt : svd.ut;
    const std::vector<double> spectrum(svd.s.begin(), svd.s.end());
    const RankChoice choice = choose_rank(options.rank, left.cols(), right.cols(), {spectrum, scale.squared_norm});

    Factors<T> factors;
    factors.w1 = Matrix<T>::uninitialized(left.cols(), choice.rank);
    factors.w2 = Matrix<T>::uninitialized(choice.rank, right.cols());
    for (std::int64_t k = 0; k < choice.rank; ++k) {
        const T s = svd.s[static_cast<std::size_t>(k)];
        for (std::int64_t i = 0; i < left.cols(); ++i) factors.w1(i, k) = left(k, i);
        for (std::int64_t j = 0; j < right.cols(); ++j) factors.w2(k, j) = s * right(k, j);
    }
    factors.method = Method::exact;
    double tail = 0;
    for (std::size_t i = spectrum.size(); i-- > static_cast<std::size_t>(choice.rank);) {
        tail += spectrum[i] * spectrum[i];
    }
    factors.relative_error = relative_residual(context, weight.view(), T{1}, options.layout, factors, tail, scale);
    if (options.singular_values) factors.singular_values = std::move(svd.s);
    return factors;
}

}  // namespace lowrank::cpu::detail
