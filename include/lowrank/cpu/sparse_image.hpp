// lowrank - a matrix times a sparse random block: where subspace iteration starts, for the price of reading the matrix.
// SPDX-License-Identifier: MIT
//
// Omega, n x l, has eight entries of 1 and -1 in each row, at random places (sparse sign matrices: Nelson, Nguyen 2013;
// Martinsson, Tropp 2020, section 9.2, who find them as good as normal entries). Here the places of l consecutive rows
// are shifts of each other, by eight random distances: so the p-th entries of those rows take a stretch of A's row,
// with signs, to the image's row in one piece, which wraps around once. With four entries the excess was up to 2.3
// times its estimate at orders of 100, with eight 1.1 times, with normal ones 1.7.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>

#include <algorithm>
#include <cstdint>

namespace lowrank::cpu::detail {

/// Fewer columns make so many short pieces that a product with the packed matrix should be faster: an estimate by their
/// number, not measured.
inline constexpr std::int64_t kLeastSparseColumns = 64;

/// Where the pieces of each stretch begin in the image: stretches x count, the numbers of a row different.
inline Matrix<std::int64_t> sparse_shifts(std::int64_t stretches, std::int64_t count, std::int64_t columns,
                                          std::uint64_t seed) {
    Matrix<std::int64_t> shifts(stretches, count);
    std::uint64_t place = lowrank::detail::mixed_bits(~seed);
    for (std::int64_t s = 0; s < stretches; ++s) {
        for (std::int64_t p = 0; p < count;) {
            const auto shift =
                static_cast<std::int64_t>(lowrank::detail::mixed_bits(place++) % static_cast<std::uint64_t>(columns));
            if (std::find(shifts.row(s), shifts.row(s) + p, shift) == shifts.row(s) + p) shifts(s, p++) = shift;
        }
    }
    return shifts;
}

/// A Omega for A, m x n; eight entries or, of fewer columns, as many. 16 m n operations; the same bits for any number
/// of threads.
template <ComputeScalar T>
Matrix<T> sparse_image(const Context& context, MatrixView<const T> a, std::int64_t columns, std::uint64_t seed) {
    const std::int64_t n = a.cols();
    const std::int64_t stretches = (n + columns - 1) / columns;
    const std::int64_t pieces = std::min<std::int64_t>(8, columns);
    auto signs = Matrix<T>::uninitialized(pieces, n);
    for (std::size_t i = 0; i < signs.size(); ++i)
        signs.data()[i] = static_cast<T>(lowrank::detail::random_sign(seed, i));
    const Matrix<std::int64_t> shifts = sparse_shifts(stretches, pieces, columns, seed);
    auto image = Matrix<T>::uninitialized(a.rows(), columns);
    const auto add = [](const T* from, const T* sign, std::int64_t count, T* to) {
        for (std::int64_t j = 0; j < count; ++j) to[j] += sign[j] * from[j];
    };
    constexpr std::int64_t kRows = 16;  // of one task, for which a stretch's signs stay in the first-level cache
    context.parallel_for((a.rows() + kRows - 1) / kRows, [&](std::int64_t task) {
        const std::int64_t begin = task * kRows;
        const std::int64_t end = std::min(begin + kRows, a.rows());
        std::fill(image.row(begin), image.row(begin) + (end - begin) * columns, T{0});
        for (std::int64_t s = 0; s < stretches; ++s) {
            const std::int64_t first = s * columns;
            const std::int64_t count = std::min(columns, n - first);
            for (std::int64_t i = begin; i < end; ++i) {
                const T* from = a.row(i) + first;
                for (std::int64_t p = 0; p < pieces; ++p) {
                    const T* sign = signs.row(p) + first;
                    const std::int64_t straight = std::min(count, columns - shifts(s, p));
                    add(from, sign, straight, image.row(i) + shifts(s, p));
                    add(from + straight, sign + straight, count - straight, image.row(i));
                }
            }
        }
    });
    return image;
}

}  // namespace lowrank::cpu::detail
