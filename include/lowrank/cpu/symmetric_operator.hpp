// lowrank - a positive semidefinite matrix as subspace iteration sees it on the CPU, where its factors are not at hand.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/block_operations.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/deflation.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/repeated_operand.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace lowrank::cpu::detail {

/// Leading eigenpairs.
template <ComputeScalar T>
struct LeadingPairs {
    std::vector<double> ritz_values;  ///< descending; of all columns of the block
    Matrix<T> vectors;                ///< n x rank, orthonormal: u
    std::vector<double> residuals;    ///< ||K u_k - theta_k u_k||^2
};

/// A backend of SubspaceIteration: G = K, n x n and exactly symmetric, which is borrowed.
template <ComputeScalar T>
class SymmetricOperator : public BlockOperations<T> {
public:
    using Block = Matrix<T>;
    using Extraction = LeadingPairs<T>;

    SymmetricOperator(const Context& context, MatrixView<const T> k, std::uint64_t seed)
        : BlockOperations<T>(context, k.rows(), seed), k_(k), packed_(context, k, operands_) {}

    /// Random vectors and K times these.
    [[nodiscard]] std::pair<Block, Block> random_start(std::int64_t columns) const {
        return detail::random_start(*this, this->sparse_start(k_, columns), columns);
    }
    [[nodiscard]] Block random_image(std::int64_t columns) const { return random_start(columns).second; }

    [[nodiscard]] BlockLanczos<T> lanczos(std::int64_t columns, int steps) const {
        return BlockOperations<T>::lanczos(columns, steps, [&](const Block& q, Block& z) { apply(1, q, 0, z); });
    }

    /// From here on apply() rounds nothing.
    void refine() {
        operands_ = Operands::exact;
        deflation_ = {};
        packed_ = RepeatedOperand<T>(context_, k_, operands_);
    }

    /// From here on apply() takes part of the first columns of q, roughly the leading eigenvectors, unrounded.
    bool deflate(const Block& q, std::int64_t count) {
        const Block v = first_columns(q, count);
        Block kv = this->block(count);
        gemm(context_, T{1}, k_, Transpose::no, v, Transpose::no, T{0}, kv.view());
        deflation_ = Deflation<T>(context_, v, kv);
        auto rest = Block::uninitialized(k_.rows(), k_.cols());
        this->for_rows(rest, [&](std::int64_t i) { std::copy_n(k_.row(i), k_.cols(), rest.row(i)); });
        deflation_.take_from(context_, 0, 0, rest.view());
        packed_ = RepeatedOperand<T>(context_, const_view(rest), operands_);
        return true;
    }

    /// z = alpha K q + beta z
    void apply(double alpha, const Block& q, double beta, Block& z) const {
        packed_.multiply(context_, static_cast<T>(alpha), q.view(), static_cast<T>(beta), z.view());
        if (!deflation_.empty()) deflation_.add(context_, static_cast<T>(alpha), q.view(), z.view());
    }

    /// The best pairs that lie in the span of q, which is roughly orthonormal.
    [[nodiscard]] Extraction extract(Block& q, std::int64_t rank) const {
        Block y = this->block(q.cols());
        if (operands_ == Operands::exact) {
            apply(1, q, 0, y);
        } else {
            gemm(context_, T{1}, k_, Transpose::no, q, Transpose::no, T{0}, y.view());
        }
        Matrix<T> t = this->upper_product(q, y);
        mirror_upper(context_, t.view());
        const auto [values, rows] = this->leading_combination(q, std::move(t), rank);
        Extraction result{values, this->block(rank), {}};
        gemm(context_, T{1}, q, Transpose::no, rows, Transpose::yes, T{0}, result.vectors.view());
        // More accurate than the eigenvalues, whose errors are as large as the rounding of the first: sums in double.
        Block images = this->block(rank);
        gemm(context_, T{1}, y, Transpose::no, rows, Transpose::yes, T{0}, images.view());
        const std::vector<double> quotients = this->column_products(result.vectors, images);
        const std::vector<double> norms = this->squared_norms(result.vectors);
        for (std::size_t i = 0; i < quotients.size(); ++i) {
            result.ritz_values[i] = norms[i] > 0 ? std::max(0.0, quotients[i] / norms[i]) : 0;
        }
        this->for_rows(images, [&](std::int64_t i) {
            for (std::int64_t k = 0; k < rank; ++k) {
                images(i, k) -= static_cast<T>(result.ritz_values[static_cast<std::size_t>(k)]) * result.vectors(i, k);
            }
        });
        result.residuals = this->squared_norms(images);
        return result;
    }

    [[nodiscard]] std::vector<lowrank::detail::Residual> residuals(const Extraction& pairs) const {
        std::vector<lowrank::detail::Residual> result;
        for (std::size_t k = 0; k < pairs.residuals.size(); ++k) {
            result.push_back({static_cast<std::int64_t>(k), 1, pairs.residuals[k]});
        }
        return result;
    }

    [[nodiscard]] double energy_lost_to_rounding(const Extraction& pairs) {
        return detail::energy_lost_to_rounding(*this, pairs.vectors, pairs.ritz_values);
    }

private:
    using BlockOperations<T>::context_;
    using BlockOperations<T>::operands_;

    MatrixView<const T> k_;
    RepeatedOperand<T> packed_;  ///< without what deflation_ has of it
    Deflation<T> deflation_;
};

}  // namespace lowrank::cpu::detail
