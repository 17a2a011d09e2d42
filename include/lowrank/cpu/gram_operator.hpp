// lowrank - the weight as subspace iteration sees it on the CPU: products with its Gram matrix, and Rayleigh-Ritz.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/block_operations.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/deflation.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/repeated_operand.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
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

/// A backend of SubspaceIteration: G = scale^2 A^T A or scale^2 A A^T, whichever is smaller, of order n.
template <Scalar S, ComputeScalar T>
class GramOperator : public BlockOperations<T> {
public:
    using Block = Matrix<T>;
    using Extraction = LeadingTriplets<T>;
    using BlockOperations<T>::order;

    /// `products` is how many products of G with `columns` columns are expected, the first with random vectors: G is
    /// formed if that is cheaper than going through A twice each time.
    GramOperator(const Context& context, MatrixView<const S> a, T scale, std::uint64_t seed, std::int64_t columns,
                 int products)
        : BlockOperations<T>(context, std::min(a.rows(), a.cols()), seed),
          a_(a),
          scale_(scale),
          wide_(a.cols() > a.rows()) {
        const auto n = static_cast<double>(order());
        const auto m = static_cast<double>(std::max(a.rows(), a.cols()));
        const double block = static_cast<double>(columns) * products;
        if (m * n * n + 2 * n * n * block > 4 * m * n * block) return;
        const Matrix<T> g = gram_matrix(a_, scale_ * scale_);
        image_ = this->sparse_start(g.view(), columns - lowrank::detail::locked_columns(order(), columns));
        gram_.emplace(context_, g.view(), operands_);
    }

    /// Random vectors and G times these; before apply() is refined.
    [[nodiscard]] std::pair<Block, Block> random_start(std::int64_t columns) {
        return detail::random_start(*this, std::exchange(image_, {}), columns);
    }
    [[nodiscard]] Block random_image(std::int64_t columns) { return random_start(columns).second; }

    [[nodiscard]] BlockLanczos<T> lanczos(std::int64_t columns, int steps) {
        return BlockOperations<T>::lanczos(columns, steps, [&](const Block& q, Block& z) { apply(1, q, 0, z); });
    }

    /// From here on apply() rounds nothing.
    void refine() {
        operands_ = Operands::exact;
        deflation_ = {};
        if (gram_) gram_.emplace(context_, gram_matrix(a_, scale_ * scale_).view(), operands_);
    }

    /// From here on apply() takes part of the first columns of q, roughly the leading eigenvectors, unrounded. Not
    /// where G is not formed: false then.
    bool deflate(const Block& q, std::int64_t count) {
        if (!gram_) return false;
        const Block v = first_columns(q, count);
        const Block y = long_product(v, Operands::exact);
        auto gv = this->block(count);
        gemm(context_, scale_, a_, wide_ ? Transpose::no : Transpose::yes, y, Transpose::no, T{0}, gv.view());
        deflation_ = Deflation<T>(context_, v, gv);
        // A without them, as it is stored: then its rounding does not show them either.
        auto rest = Matrix<T>::uninitialized(a_.rows(), a_.cols());
        this->for_rows(rest, [&](std::int64_t i) {
            for (std::int64_t j = 0; j < rest.cols(); ++j) rest(i, j) = scale_ * static_cast<T>(a_(i, j));
        });
        gemm(context_, T{-1}, wide_ ? v : y, Transpose::no, wide_ ? y : v, Transpose::yes, T{1}, rest.view());
        gram_.emplace(context_, gram_matrix(const_view(rest), T{1}).view(), operands_);
        image_ = {};  // of a G whose rounding still shows them
        return true;
    }

    /// z = alpha G q + beta z
    void apply(double alpha, const Block& q, double beta, Block& z) {
        if (gram_) {
            gram_->multiply(context_, static_cast<T>(alpha), q.view(), static_cast<T>(beta), z.view());
            if (!deflation_.empty()) deflation_.add(context_, static_cast<T>(alpha), q.view(), z.view());
            return;
        }
        const Block y = long_product(q, operands_);
        gemm(context_, static_cast<T>(alpha) * scale_, a_, wide_ ? Transpose::no : Transpose::yes, y, Transpose::no,
             static_cast<T>(beta), z.view(), operands_);
    }

    /// The best triplets that lie in the span of q, which is roughly orthonormal: from y = A q, never from G, so that
    /// their accuracy is A's.
    [[nodiscard]] Extraction extract(Block& q, std::int64_t rank) const {
        const Block y = long_product(q, Operands::exact);
        auto t = Matrix<T>::uninitialized(q.cols(), q.cols());
        gram(context_, T{1}, y, Transpose::yes, T{0}, t.view());
        const auto [values, rows] = this->leading_combination(q, std::move(t), rank);
        Extraction result{values, Matrix<T>::uninitialized(y.rows(), rank), Matrix<T>::uninitialized(q.rows(), rank)};
        gemm(context_, T{1}, y, Transpose::no, rows, Transpose::yes, T{0}, result.long_side.view());
        gemm(context_, T{1}, q, Transpose::no, rows, Transpose::yes, T{0}, result.short_side.view());
        // More accurate than the eigenvalues, as sums in double.
        const std::vector<double> norms = this->squared_norms(result.long_side);
        std::copy(norms.begin(), norms.end(), result.ritz_values.begin());
        return result;
    }

    /// Of some of the vectors, for all.
    [[nodiscard]] std::vector<lowrank::detail::Residual> residuals(const Extraction& triplets) {
        return sampled_residuals(*this, triplets.short_side, triplets.ritz_values);
    }

    [[nodiscard]] double energy_lost_to_rounding(const Extraction& triplets) {
        return detail::energy_lost_to_rounding(*this, triplets.short_side, triplets.ritz_values);
    }

private:
    using BlockOperations<T>::context_;
    using BlockOperations<T>::operands_;

    /// scale a^T a or scale a a^T
    template <Scalar E>
    [[nodiscard]] Matrix<T> gram_matrix(MatrixView<const E> a, T scale) const {
        auto g = Matrix<T>::uninitialized(order(), order());
        gram(context_, scale, a, wide_ ? Transpose::no : Transpose::yes, T{0}, g.view(), operands_);
        return g;
    }

    /// scale A q or scale A^T q: m x columns.
    [[nodiscard]] Block long_product(const Block& q, Operands operands) const {
        auto y = Block::uninitialized(std::max(a_.rows(), a_.cols()), q.cols());
        gemm(context_, scale_, a_, wide_ ? Transpose::yes : Transpose::no, q, Transpose::no, T{0}, y.view(), operands);
        return y;
    }

    MatrixView<const S> a_;
    T scale_;
    bool wide_;
    Block image_;                             ///< of random vectors, until it is asked for
    std::optional<RepeatedOperand<T>> gram_;  ///< without what deflation_ has of it
    Deflation<T> deflation_;
};

}  // namespace lowrank::cpu::detail
