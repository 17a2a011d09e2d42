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

/// Omega: what the entries are, for all that use them.
template <ComputeScalar T>
class SparseSigns {
public:
    SparseSigns(std::int64_t rows, std::int64_t columns, std::uint64_t seed)
        : rows_(rows),
          columns_(columns),
          signs_(Matrix<T>::uninitialized(std::min<std::int64_t>(8, columns), rows)),
          shifts_(sparse_shifts((rows + columns - 1) / columns, signs_.rows(), columns, seed)) {
        for (std::size_t i = 0; i < signs_.size(); ++i)
            signs_.data()[i] = static_cast<T>(lowrank::detail::random_sign(seed, i));
    }

    /// y += x Omega for a stretch of x and all of y, a row each.
    void add_stretch(std::int64_t stretch, const T* x, T* y) const {
        for_pieces(stretch, [&](const T* sign, std::int64_t first, std::int64_t count, std::int64_t column) {
            for (std::int64_t j = 0; j < count; ++j) y[column + j] += sign[first + j] * x[first + j];
        });
    }
    /// Omega itself.
    [[nodiscard]] Matrix<T> dense() const {
        Matrix<T> result(rows_, columns_);
        for (std::int64_t s = 0; s < stretches(); ++s) {
            for_pieces(s, [&](const T* sign, std::int64_t first, std::int64_t count, std::int64_t column) {
                for (std::int64_t j = 0; j < count; ++j) result(first + j, column + j) = sign[first + j];
            });
        }
        return result;
    }
    [[nodiscard]] std::int64_t stretches() const { return shifts_.rows(); }

private:
    /// Rows `first` to `first` + `count` of Omega have sign[row] at columns from `column` on, one further in each row.
    template <class Use>
    void for_pieces(std::int64_t stretch, Use&& use) const {
        const std::int64_t first = stretch * columns_;
        const std::int64_t count = std::min(columns_, rows_ - first);
        for (std::int64_t p = 0; p < signs_.rows(); ++p) {
            const std::int64_t shift = shifts_(stretch, p);
            const std::int64_t straight = std::min(count, columns_ - shift);
            use(signs_.row(p), first, straight, shift);
            use(signs_.row(p), first + straight, count - straight, 0);
        }
    }

    std::int64_t rows_, columns_;
    Matrix<T> signs_;
    Matrix<std::int64_t> shifts_;
};

/// A Omega for A, m x n; eight entries or, of fewer columns, as many. 16 m n operations; the same bits for any number
/// of threads.
template <ComputeScalar T>
Matrix<T> sparse_image(const Context& context, MatrixView<const T> a, std::int64_t columns, std::uint64_t seed) {
    const SparseSigns<T> omega(a.cols(), columns, seed);
    auto image = Matrix<T>::uninitialized(a.rows(), columns);
    constexpr std::int64_t kRows = 16;  // of one task, for which a stretch's signs stay in the first-level cache
    context.parallel_for((a.rows() + kRows - 1) / kRows, [&](std::int64_t task) {
        const std::int64_t begin = task * kRows;
        const std::int64_t end = std::min(begin + kRows, a.rows());
        std::fill(image.row(begin), image.row(begin) + (end - begin) * columns, T{0});
        for (std::int64_t s = 0; s < omega.stretches(); ++s) {
            for (std::int64_t i = begin; i < end; ++i) omega.add_stretch(s, a.row(i), image.row(i));
        }
    });
    return image;
}

}  // namespace lowrank::cpu::detail
