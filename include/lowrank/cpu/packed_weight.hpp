// lowrank - a weight in the order that the CPU's forward kernels read.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/forward_kernels.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace lowrank::cpu {

/// K x N weights of a product X W, packed once, for one row and for many alike, and on every instruction-set level.
///
/// A panel holds 16 columns (8 of double), one after the other in memory: for each step of K its columns' values side
/// by side. A step is one element, or two consecutive ones of bf16, which lie together as the dot product takes them.
/// What pads the last panel and an odd K is zero. Packing is exact: unpack() gives the same bits back.
template <Scalar T>
class PackedWeight {
public:
    static constexpr std::int64_t kWidth = detail::kPanelWidth<compute_t<T>>;
    static constexpr std::int64_t kStepElements = detail::kStoredPerStep<T>;

    PackedWeight() = default;
    PackedWeight(const PackedWeight&) = default;
    PackedWeight& operator=(const PackedWeight&) = default;
    /// Leaves an empty one.
    PackedWeight(PackedWeight&& other) noexcept
        : rows_(std::exchange(other.rows_, 0)),
          cols_(std::exchange(other.cols_, 0)),
          panels_(std::move(other.panels_)) {}
    PackedWeight& operator=(PackedWeight&& other) noexcept {
        rows_ = std::exchange(other.rows_, 0);
        cols_ = std::exchange(other.cols_, 0);
        panels_ = std::move(other.panels_);
        return *this;
    }
    ~PackedWeight() = default;

    /// `stored` is W (K x N) or, with WeightLayout::out_in, W^T (N x K). O(K N).
    PackedWeight(MatrixView<const T> stored, WeightLayout layout)
        : rows_(layout == WeightLayout::in_out ? stored.rows() : stored.cols()),
          cols_(layout == WeightLayout::in_out ? stored.cols() : stored.rows()),
          panels_((cols_ + kWidth - 1) / kWidth, (rows_ + kStepElements - 1) / kStepElements * kStepElements * kWidth) {
        const std::int64_t along_row = layout == WeightLayout::in_out ? stored.leading_dimension() : 1;
        const std::int64_t along_col = layout == WeightLayout::in_out ? 1 : stored.leading_dimension();
        for (std::int64_t panel = 0; panel < panels(); ++panel) {
            const std::int64_t first = panel * kWidth;
            const std::int64_t width = std::min(kWidth, cols_ - first);
            T* to = panels_.row(panel);
            for (std::int64_t i = 0; i < rows_; i += kStepElements, to += kWidth * kStepElements) {
                const T* from = stored.data() + i * along_row + first * along_col;
                const std::int64_t depth = std::min(kStepElements, rows_ - i);
                for (std::int64_t j = 0; j < width; ++j) {
                    for (std::int64_t d = 0; d < depth; ++d) {
                        to[j * kStepElements + d] = from[j * along_col + d * along_row];
                    }
                }
            }
        }
    }

    [[nodiscard]] std::int64_t rows() const { return rows_; }
    [[nodiscard]] std::int64_t cols() const { return cols_; }
    [[nodiscard]] std::int64_t panels() const { return panels_.rows(); }
    [[nodiscard]] std::int64_t panel_size() const { return panels_.cols(); }
    [[nodiscard]] const T* panel(std::int64_t i) const { return panels_.row(i); }
    /// Bytes in memory, padding included.
    [[nodiscard]] std::size_t bytes() const { return panels_.size() * sizeof(T); }

    [[nodiscard]] Matrix<T> unpack() const {
        Matrix<T> w(rows_, cols_);
        for (std::int64_t i = 0; i < rows_; ++i) {
            for (std::int64_t j = 0; j < cols_; ++j) {
                w(i, j) =
                    panel(j / kWidth)[(i / kStepElements * kWidth + j % kWidth) * kStepElements + i % kStepElements];
            }
        }
        return w;
    }

private:
    std::int64_t rows_ = 0;
    std::int64_t cols_ = 0;
    Matrix<T> panels_;
};

}  // namespace lowrank::cpu
