// lowrank - a matrix times a sparse random block: where subspace iteration starts, for the price of reading the matrix.
// SPDX-License-Identifier: MIT
//
// Omega, n x l, has kPerRow entries of 1 and -1 in each row, at random places (sparse sign matrices: Nelson, Nguyen
// 2013; Martinsson, Tropp 2020, section 9.2, who find them as good as normal entries). Here the places of l consecutive
// rows are shifts of each other, of one random distance for each of a row's entries: so a row of A Omega is the sum of
// few stretches of A's row, with random signs, and no two of those rows meet in the same column.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>

#include <algorithm>
#include <cstdint>

namespace lowrank::cpu::detail {

/// A Omega for a contiguous-row A, m x n, with `columns` <= n columns. 2 kPerRow m n operations; the same bits for any
/// number of threads.
template <ComputeScalar T>
Matrix<T> sparse_image(const Context& context, MatrixView<const T> a, std::int64_t columns, std::uint64_t seed) {
    constexpr std::int64_t kPerRow = 8;  // of Omega
    const std::int64_t n = a.cols();
    const std::int64_t stretches = (n + columns - 1) / columns;
    const auto place = [](std::int64_t i) { return static_cast<std::uint64_t>(i); };
    auto signs = Matrix<T>::uninitialized(kPerRow, n);
    for (std::int64_t i = 0; i < kPerRow * n; ++i) {
        signs.data()[i] = static_cast<T>(lowrank::detail::random_sign(seed, place(i)));
    }
    // Where in the image the first column of a stretch goes.
    Matrix<std::int64_t> shifts(kPerRow, stretches);
    for (std::int64_t i = 0; i < kPerRow * stretches; ++i) {
        shifts.data()[i] = static_cast<std::int64_t>(lowrank::detail::mixed_bits(~seed + place(i)) %
                                                     static_cast<std::uint64_t>(columns));
    }
    auto image = Matrix<T>::uninitialized(a.rows(), columns);
    const auto add = [](const T* from, const T* sign, std::int64_t count, T* to) {
        for (std::int64_t j = 0; j < count; ++j) to[j] += sign[j] * from[j];
    };
    constexpr std::int64_t kRows = 16;  // of one task
    context.parallel_for((a.rows() + kRows - 1) / kRows, [&](std::int64_t task) {
        for (std::int64_t i = task * kRows; i < std::min((task + 1) * kRows, a.rows()); ++i) {
            T* to = image.row(i);
            std::fill_n(to, columns, T{0});
            for (std::int64_t s = 0; s < stretches; ++s) {
                const std::int64_t first = s * columns;
                const std::int64_t count = std::min(columns, n - first);
                for (std::int64_t p = 0; p < kPerRow; ++p) {
                    const T* from = a.row(i) + first;
                    const T* sign = signs.row(p) + first;
                    const std::int64_t shift = shifts(p, s);
                    const std::int64_t straight = std::min(count, columns - shift);
                    add(from, sign, straight, to + shift);
                    add(from + straight, sign + straight, count - straight, to);
                }
            }
        }
    });
    return image;
}

}  // namespace lowrank::cpu::detail
