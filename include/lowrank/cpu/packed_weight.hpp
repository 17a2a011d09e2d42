// lowrank - a weight in the order that the CPU's forward kernels read.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>

namespace lowrank::cpu {

/// K x N weights of a product X W, packed once. Packing is exact: unpack() gives the same bits back.
template <Scalar T>
class PackedWeight {
public:
    PackedWeight() = default;

    /// `stored` is W (K x N) or, with WeightLayout::out_in, W^T (N x K).
    PackedWeight(MatrixView<const T> stored, WeightLayout layout)
        : values_(layout == WeightLayout::in_out ? Matrix<T>(stored.rows(), stored.cols())
                                                 : Matrix<T>(stored.cols(), stored.rows())) {
        for (std::int64_t i = 0; i < values_.rows(); ++i) {
            for (std::int64_t j = 0; j < values_.cols(); ++j) {
                values_(i, j) = layout == WeightLayout::in_out ? stored(i, j) : stored(j, i);
            }
        }
    }

    [[nodiscard]] std::int64_t rows() const { return values_.rows(); }
    [[nodiscard]] std::int64_t cols() const { return values_.cols(); }
    [[nodiscard]] std::size_t bytes() const { return values_.size() * sizeof(T); }
    [[nodiscard]] Matrix<T> unpack() const { return values_; }
    [[nodiscard]] const T* row(std::int64_t i) const { return values_.row(i); }

private:
    Matrix<T> values_;
};

}  // namespace lowrank::cpu
