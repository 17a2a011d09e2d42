// lowrank - inner products of the columns of two blocks.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank::cpu::detail {

/// x_k^T y_k for the columns k of two blocks of one size: sums in double, the same for any number of threads.
template <ComputeScalar T>
std::vector<double> column_products(const Context& context, const Matrix<T>& x, const Matrix<T>& y) {
    std::vector<double> result(static_cast<std::size_t>(y.cols()));
    constexpr std::int64_t kColumns = 64;
    context.parallel_for((y.cols() + kColumns - 1) / kColumns, [&](std::int64_t part) {
        const std::int64_t begin = part * kColumns;
        const std::int64_t count = std::min(kColumns, y.cols() - begin);
        double sums[kColumns] = {};
        for (std::int64_t i = 0; i < y.rows(); ++i) {
            const T* left = x.row(i) + begin;
            const T* right = y.row(i) + begin;
            for (std::int64_t j = 0; j < count; ++j) {
                sums[j] += static_cast<double>(left[j]) * static_cast<double>(right[j]);
            }
        }
        std::copy_n(sums, count, result.begin() + begin);
    });
    return result;
}

}  // namespace lowrank::cpu::detail
