// lowrank - the weight as subspace iteration sees it on the CPU: products with its Gram matrix, and Rayleigh-Ritz.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/orthonormalize.hpp>
#include <lowrank/cpu/symmetric_eigen.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace lowrank::cpu::detail {

/// Leading singular triplets of scale * A: A is m x n or, seen from its shorter side, its transpose; n <= m.
template <ComputeScalar T>
struct LeadingTriplets {
    std::vector<double> ritz_values;  ///< squares of the singular values, descending; of all columns of the block
    Matrix<T> long_side;              ///< m x rank: singular vectors times singular values
    Matrix<T> short_side;             ///< n x rank: orthonormal
};

/// Rows of a block that one task of a loop over elements takes: 64 x 400 floats are 100 KiB.
inline constexpr std::int64_t kElementRows = 64;

/// A backend of SubspaceIteration: G = scale^2 A^T A or scale^2 A A^T, whichever is smaller, of order n.
template <Scalar S, ComputeScalar T>
class GramOperator {
public:
    using Block = Matrix<T>;
    using Extraction = LeadingTriplets<T>;

    /// `products` is how many products of G with `columns` columns are expected: G is formed if that is cheaper than
    /// going through A twice each time.
    GramOperator(const Context& context, MatrixView<const S> a, T scale, std::uint64_t seed, std::int64_t columns,
                 int products)
        : context_(context), a_(a), scale_(scale), seed_(seed), wide_(a.cols() > a.rows()) {
        const auto n = static_cast<double>(order());
        const auto m = static_cast<double>(std::max(a.rows(), a.cols()));
        const double block = static_cast<double>(columns) * products;
        if (m * n * n + 2 * n * n * block > 4 * m * n * block) return;
        gram_ = Matrix<T>::uninitialized(order(), order());
        gram(context_, scale_ * scale_, a_, wide_ ? Transpose::no : Transpose::yes, T{0}, gram_->view());
    }

    [[nodiscard]] std::int64_t order() const { return std::min(a_.rows(), a_.cols()); }

    /// order() x columns independent entries of mean 0.
    [[nodiscard]] Block random_block(std::int64_t columns) const {
        auto q = Block::uninitialized(order(), columns);
        for_rows(q, [&](std::int64_t i) {
            for (std::int64_t j = 0; j < columns; ++j) {
                q(i, j) =
                    static_cast<T>(lowrank::detail::random_entry(seed_, static_cast<std::uint64_t>(i * columns + j)));
            }
        });
        return q;
    }

    /// The same size, its entries still to be written.
    [[nodiscard]] Block block(std::int64_t columns) const { return Block::uninitialized(order(), columns); }

    /// z = alpha G q + beta z
    void apply(double alpha, const Block& q, double beta, Block& z) {
        if (gram_) {
            gemm(context_, static_cast<T>(alpha), *gram_, Transpose::no, q, Transpose::no, static_cast<T>(beta),
                 z.view());
            return;
        }
        const Block y = long_product(q);
        gemm(context_, static_cast<T>(alpha) * scale_, a_, wide_ ? Transpose::no : Transpose::yes, y, Transpose::no,
             static_cast<T>(beta), z.view());
    }

    /// y += alpha x
    void add(double alpha, const Block& x, Block& y) const {
        const T factor = static_cast<T>(alpha);
        for_rows(y, [&](std::int64_t i) {
            const T* from = x.row(i);
            T* to = y.row(i);
            for (std::int64_t j = 0; j < y.cols(); ++j) to[j] += factor * from[j];
        });
    }

    void scale(double alpha, Block& x) const {
        const T factor = static_cast<T>(alpha);
        for_rows(x, [&](std::int64_t i) {
            for (std::int64_t j = 0; j < x.cols(); ++j) x(i, j) *= factor;
        });
    }

    /// Columns of q become an orthonormal basis of their span.
    void orthonormalize(Block& q, Block& scratch, bool to_working_accuracy) const {
        cpu::orthonormalize(context_, q, scratch,
                            to_working_accuracy ? Orthonormal::to_working_accuracy : Orthonormal::roughly);
    }

    /// Eigenvalues of q^T z = q^T G q, descending; the eigenvectors are kept for rotate().
    [[nodiscard]] std::vector<double> ritz_values(const Block& q, const Block& z) {
        auto t = Matrix<T>::uninitialized(q.cols(), q.cols());
        gemm(context_, T{1}, q, Transpose::yes, z, Transpose::no, T{0}, t.view());
        SymmetricEigen<T> eigen = symmetric_eigen<T>(context_, t.view());
        ritz_vectors_ = std::move(eigen.vt);
        return std::move(eigen.values);
    }

    /// x = x V, V the eigenvectors of the last ritz_values().
    void rotate(Block& x) const {
        Block rotated = block(x.cols());
        gemm(context_, T{1}, x, Transpose::no, ritz_vectors_, Transpose::yes, T{0}, rotated.view());
        x = std::move(rotated);
    }

    /// The best triplets that lie in the span of q, which is orthonormal: from y = A q, never from G, so that their
    /// accuracy is A's. Consumes q.
    [[nodiscard]] Extraction extract(Block& q, std::int64_t rank) const {
        const Block y = long_product(q);
        auto t = Matrix<T>::uninitialized(q.cols(), q.cols());
        gram(context_, T{1}, y, Transpose::yes, T{0}, t.view());
        const SymmetricEigen<T> eigen = symmetric_eigen<T>(context_, t.view());
        const MatrixView<const T> leading = eigen.vt.view().block(0, 0, rank, q.cols());
        Extraction result;
        result.ritz_values = eigen.values;
        result.long_side = Matrix<T>::uninitialized(y.rows(), rank);
        result.short_side = Matrix<T>::uninitialized(q.rows(), rank);
        gemm(context_, T{1}, y, Transpose::no, leading, Transpose::yes, T{0}, result.long_side.view());
        gemm(context_, T{1}, q, Transpose::no, leading, Transpose::yes, T{0}, result.short_side.view());
        take_column_norms(result);
        return result;
    }

private:
    /// scale A q or scale A^T q: m x columns.
    [[nodiscard]] Block long_product(const Block& q) const {
        auto y = Block::uninitialized(std::max(a_.rows(), a_.cols()), q.cols());
        gemm(context_, scale_, a_, wide_ ? Transpose::yes : Transpose::no, q, Transpose::no, T{0}, y.view());
        return y;
    }

    /// The squared norms of the triplets, summed in double, are more accurate than the eigenvalues.
    void take_column_norms(Extraction& result) const {
        const Matrix<T>& y = result.long_side;
        constexpr std::int64_t kColumns = 64;
        context_.parallel_for((y.cols() + kColumns - 1) / kColumns, [&](std::int64_t part) {
            const std::int64_t begin = part * kColumns;
            const std::int64_t count = std::min(kColumns, y.cols() - begin);
            double sums[kColumns] = {};
            for (std::int64_t i = 0; i < y.rows(); ++i) {
                const T* row = y.row(i) + begin;
                for (std::int64_t j = 0; j < count; ++j) {
                    sums[j] += static_cast<double>(row[j]) * static_cast<double>(row[j]);
                }
            }
            std::copy_n(sums, count, result.ritz_values.begin() + begin);
        });
    }

    template <class F>
    void for_rows(const Block& block, F&& body) const {
        context_.parallel_for((block.rows() + kElementRows - 1) / kElementRows, [&](std::int64_t part) {
            const std::int64_t end = std::min((part + 1) * kElementRows, block.rows());
            for (std::int64_t i = part * kElementRows; i < end; ++i) body(i);
        });
    }

    const Context& context_;
    MatrixView<const S> a_;
    T scale_;
    std::uint64_t seed_;
    bool wide_;
    std::optional<Matrix<T>> gram_;
    Matrix<T> ritz_vectors_;  ///< as rows
};

}  // namespace lowrank::cpu::detail
