// lowrank - calibration: what flows through a layer, summed batch by batch.
// SPDX-License-Identifier: MIT
//
// Mathematics. Of the rows of batches X (n x width) it keeps the Gram matrix sum X^T X, the sum of the rows, and their
// number. Two of them describe a layer: that of its inputs (H and the mean input mu), and that of the loss's gradients
// at its outputs (G); together they are the Kronecker factors of the Fisher information of its weight (Martens, Grosse
// 2015). Both are sums over tokens, so those of several workers add up.
//
// Accuracy. Products and sums are accumulated in double, in which the products of float, bf16 and f16 are exact:
// |error of gram(i, j)| <= gamma_{n + 3 b} sum |x_i x_j| over all n rows in b batches, gamma_k = k u / (1 - k u),
// u = 2^-53.
//
//     lowrank::Moments inputs(d_in);
//     for (const auto& x : batches) inputs.add(cpu, x);        // x: any n x d_in, of any Scalar type
//     auto factors = lowrank::decompose(cpu, W, {.input = &inputs}, {.rank = lowrank::fixed_rank(384)});
//                                                              // <lowrank/decompose_calibrated.hpp>
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// Sums over rows of `width` numbers. Memory O(width^2), whatever the number of rows.
class Moments {
public:
    Moments() = default;
    /// Nothing seen yet. Throws ShapeError for a negative width.
    explicit Moments(std::int64_t width) : gram_(width, width), sum_(static_cast<std::size_t>(width)) {}
    /// Sums that were formed elsewhere. Throws ShapeError where the sizes do not fit together, ValueError for a
    /// negative count, or for what no sum of outer products can be: an entry that is not finite, a negative diagonal,
    /// an asymmetric matrix. `name` is used in messages.
    Moments(Matrix<double> gram, std::vector<double> sum, std::int64_t rows, const std::string& name,
            const cpu::Context& context = cpu::Context({.threads = 1}))
        : gram_(std::move(gram)), sum_(std::move(sum)), rows_(rows) {
        require_valid(name, context);
    }

    /// Adds the rows of x (n x width). O(n width^2). Throws ShapeError for another width.
    template <class M>
    requires MatrixIn<M, HostSpace>
    void add(const cpu::Context& context, const M& x) {
        const MatrixView<const element_t<M>> rows = const_view(x);
        if (rows.cols() != width()) {
            throw ShapeError("a batch of " + shape_string(rows.rows(), rows.cols()) +
                             " does not add to sums over rows of " + std::to_string(width()));
        }
        if constexpr (cpu::OperandOf<element_t<M>, double>) {
            add_rows(context, rows);
        } else {
            constexpr std::int64_t kRows = 256;  // widened at a time, so that the copy stays small
            for (std::int64_t i = 0; i < rows.rows(); i += kRows) {
                const auto part = rows.block(i, 0, std::min(kRows, rows.rows() - i), rows.cols());
                Matrix<float> wide(part.rows(), part.cols());
                for (std::int64_t r = 0; r < part.rows(); ++r) {
                    std::transform(part.row(r), part.row(r) + part.cols(), wide.row(r),
                                   [](auto value) { return static_cast<float>(value); });
                }
                add_rows(context, const_view(wide));
            }
        }
    }

    /// Adds what another has seen. O(width^2). Throws ShapeError for another width.
    void merge(const Moments& other) {
        if (other.width() != width()) {
            throw ShapeError("sums over rows of " + std::to_string(other.width()) + " and of " +
                             std::to_string(width()) + " do not add up");
        }
        std::transform(gram_.data(), gram_.data() + gram_.size(), other.gram_.data(), gram_.data(), std::plus<>());
        if (other.sum_.empty()) sum_.clear();
        if (!sum_.empty()) std::transform(sum_.begin(), sum_.end(), other.sum_.begin(), sum_.begin(), std::plus<>());
        rows_ += other.rows_;
    }

    /// Throws as the constructor from sums does: also for a NaN that came in a batch. O(width^2).
    void require_valid(const std::string& name, const cpu::Context& context = cpu::Context({.threads = 1})) const;

    [[nodiscard]] std::int64_t width() const { return gram_.rows(); }
    /// Rows seen.
    [[nodiscard]] std::int64_t rows() const { return rows_; }
    /// sum X^T X, width x width, exactly symmetric.
    [[nodiscard]] MatrixView<const double> gram() const { return gram_.view(); }
    /// The sum of the rows; empty if it is not known.
    [[nodiscard]] std::span<const double> sum() const { return sum_; }
    /// The mean row; empty if it is not known, zero if no row was seen.
    [[nodiscard]] std::vector<double> mean() const {
        std::vector<double> result(sum_);
        for (double& value : result) value /= static_cast<double>(std::max<std::int64_t>(rows_, 1));
        return result;
    }

    /// The same with the mean row taken off every row, sum (x - mu)^T (x - mu): for a layer whose bias absorbs the
    /// mean. Throws ValueError if the sum of the rows is not known.
    [[nodiscard]] Moments centred() const {
        if (sum_.empty()) throw ValueError("moments without the sum of the rows cannot be centred");
        Moments result(*this);
        const std::vector<double> mu = mean();
        for (std::int64_t i = 0; i < width(); ++i) {
            for (std::int64_t j = i; j < width(); ++j) {
                const double centre = sum_[static_cast<std::size_t>(i)] * mu[static_cast<std::size_t>(j)];
                result.gram_(i, j) -= centre;
                result.gram_(j, i) = result.gram_(i, j);
            }
            result.gram_(i, i) = std::max(0.0, result.gram_(i, i));  // a constant input leaves rounding only
            result.sum_[static_cast<std::size_t>(i)] = 0;
        }
        return result;
    }

private:
    template <class S>
    void add_rows(const cpu::Context& context, MatrixView<const S> rows) {
        cpu::gram(context, 1.0, rows, cpu::Transpose::yes, 1.0, gram_.view());
        for (std::int64_t i = 0; i < rows.rows() && !sum_.empty(); ++i) {
            for (std::int64_t j = 0; j < rows.cols(); ++j) {
                sum_[static_cast<std::size_t>(j)] += static_cast<double>(rows(i, j));
            }
        }
        rows_ += rows.rows();
    }

    Matrix<double> gram_;
    std::vector<double> sum_;
    std::int64_t rows_ = 0;
};

inline void Moments::require_valid(const std::string& name, const cpu::Context& context) const {
    const std::string subject = name + ", " + shape_string(gram_.rows(), gram_.cols()) + ", ";
    if (gram_.rows() != gram_.cols()) throw ShapeError(subject + "is not square, so it is no Gram matrix");
    if (!sum_.empty() && static_cast<std::int64_t>(sum_.size()) != width()) {
        throw ShapeError(subject + "does not fit a sum of rows of " + std::to_string(sum_.size()));
    }
    bool zero = true;
    for (std::int64_t i = 0; i < width(); ++i) zero = zero && gram_(i, i) == 0;
    if (rows_ < 0 || (rows_ == 0 && !zero)) {
        throw ValueError(subject + "cannot come from " + std::to_string(rows_) + " rows");
    }
    const auto refuse = [&](const char* what, std::int64_t i, std::int64_t j) {
        throw ValueError(subject + what + " at row " + std::to_string(i) + ", column " + std::to_string(j));
    };
    // Rows [begin, end) up to the diagonal, with what mirrors them; the columns of a block stay in the cache.
    constexpr std::int64_t kBlock = 64;
    const auto for_rows = [&](std::int64_t begin, auto&& look) {
        const std::int64_t end = std::min(begin + kBlock, width());
        for (std::int64_t j0 = 0; j0 < end; j0 += kBlock) {
            for (std::int64_t i = begin; i < end; ++i) {
                for (std::int64_t j = j0; j < std::min({j0 + kBlock, i + 1, end}); ++j) look(i, j);
            }
        }
    };
    std::atomic<bool> valid{true};
    context.parallel_for((width() + kBlock - 1) / kBlock, [&](std::int64_t part) {
        bool good = true;
        for_rows(part * kBlock, [&](std::int64_t i, std::int64_t j) {
            good = good && is_finite(gram_(j, i)) && gram_(i, j) == gram_(j, i) && (i != j || gram_(i, i) >= 0);
        });
        if (!good) valid.store(false, std::memory_order_relaxed);
    });
    for (std::int64_t begin = 0; begin < width() && !valid; begin += kBlock) {
        for_rows(begin, [&](std::int64_t i, std::int64_t j) {
            if (!is_finite(gram_(j, i))) refuse("is not finite", j, i);
            if (!is_finite(gram_(i, j))) refuse("is not finite", i, j);
            if (gram_(i, j) != gram_(j, i)) refuse("is not symmetric", j, i);
            if (i == j && gram_(i, i) < 0) refuse("has a negative sum of squares", i, i);
        });
    }
    for (std::size_t j = 0; j < sum_.size(); ++j) {
        if (!is_finite(sum_[j])) refuse("comes with a sum of rows that is not finite", 0, static_cast<std::int64_t>(j));
    }
}

}  // namespace lowrank
