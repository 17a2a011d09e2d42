// generate - sums of what flows through one layer, fast: rows are gathered, multiplied in float and added up in double.
// SPDX-License-Identifier: MIT
//
// lowrank::Moments multiplies in double throughout, which takes twice the time. Here a product of kMomentRows rows is
// in float: it moves entry (i, j) by some 2^-24 sqrt(kMomentRows h_ii h_jj) at most, below the noise of any sample of
// tokens. Or, where integers are faster, it is the exact product of rows that are rounded to some 11 bits: the sums of
// slightly other rows, still positive semidefinite, by a seventh of what rounding them to bf16 would move.
#pragma once

#include "copy_rows.hpp"

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace engine {

/// Rows of one product of them: the sum in double then costs little beside it.
inline constexpr std::int64_t kMomentRows = 4096;

template <lowrank::Scalar T>
class MomentSums {
public:
    explicit MomentSums(std::int64_t width)
        : rows_(kMomentRows, width),
          product_(width, width),
          gram_(width, width),
          sum_(static_cast<std::size_t>(width)) {}

    void add(const lowrank::cpu::Context& context, lowrank::MatrixView<const T> x) {
        for (std::int64_t row = 0; row < x.rows();) {
            const std::int64_t fit = std::min(kMomentRows - gathered_, x.rows() - row);
            copy_rows(context, x.block(row, 0, fit, x.cols()), rows_.view().block(gathered_, 0, fit, x.cols()));
            row += fit;
            gathered_ += fit;
            if (gathered_ == kMomentRows) flush(context);
        }
    }

    /// All that was added; nothing is left here. Throws ValueError, beginning with `name`, for sums that are not
    /// finite.
    [[nodiscard]] lowrank::Moments take(const lowrank::cpu::Context& context, const std::string& name) {
        flush(context);
        const std::int64_t width = gram_.rows();
        for (std::int64_t i = 0; i < width; ++i) {
            for (std::int64_t j = 0; j < i; ++j) gram_(i, j) = gram_(j, i);
        }
        lowrank::Moments moments(std::exchange(gram_, {width, width}),
                                 std::exchange(sum_, std::vector<double>(sum_.size())), std::exchange(count_, 0), name);
        return moments;
    }

private:
    void flush(const lowrank::cpu::Context& context) {
        const std::int64_t width = gram_.rows();
        const lowrank::MatrixView<const T> x(rows_.data(), gathered_, width);
        gram(context, 1.0F, x, lowrank::cpu::Transpose::yes, 0.0F, product_.view(), lowrank::cpu::Operands::rounded);
        context.parallel_for(width, [&](std::int64_t i) {
            for (std::int64_t j = i; j < width; ++j) gram_(i, j) += static_cast<double>(product_(i, j));
        });
        constexpr std::int64_t kColumns = 64;  // of a task: whole cache lines
        context.parallel_for((width + kColumns - 1) / kColumns, [&](std::int64_t task) {
            const std::int64_t first = task * kColumns;
            const std::int64_t columns = std::min(kColumns, width - first);
            std::array<double, kColumns> sums{};
            for (std::int64_t row = 0; row < gathered_; ++row) {
                const T* from = x.row(row) + first;
                for (std::int64_t j = 0; j < columns; ++j) {
                    sums[static_cast<std::size_t>(j)] += static_cast<double>(from[j]);
                }
            }
            for (std::int64_t j = 0; j < columns; ++j) {
                sum_[static_cast<std::size_t>(first + j)] += sums[static_cast<std::size_t>(j)];
            }
        });
        count_ += gathered_;
        gathered_ = 0;
    }

    lowrank::Matrix<T> rows_;
    lowrank::Matrix<float> product_;
    lowrank::Matrix<double> gram_;  ///< on and above the diagonal
    std::vector<double> sum_;
    std::int64_t gathered_ = 0;
    std::int64_t count_ = 0;
};

}  // namespace engine
