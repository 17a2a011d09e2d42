// lowrank - the weight as subspace iteration sees it on the CPU: products with its Gram matrix, and Rayleigh-Ritz.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/column_norms.hpp>
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
        if (std::is_same_v<T, float> && context.isa() >= Isa::avx512_bf16) operands_ = Operands::rounded;
        const auto n = static_cast<double>(order());
        const auto m = static_cast<double>(std::max(a.rows(), a.cols()));
        const double block = static_cast<double>(columns) * products;
        if (m * n * n + 2 * n * n * block > 4 * m * n * block) return;
        gram_ = Matrix<T>::uninitialized(order(), order());
        form_gram();
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

    /// Mean square of the relative error by which operands of apply() are rounded; 0 if they are not.
    [[nodiscard]] double rounding_variance() const { return operands_ == Operands::rounded ? kBf16Variance : 0; }

    /// From here on apply() rounds nothing.
    void refine() {
        operands_ = Operands::exact;
        if (gram_ && !std::is_same_v<S, bf16>) form_gram();
    }

    /// z = alpha G q + beta z
    void apply(double alpha, const Block& q, double beta, Block& z) {
        if (gram_) {
            gemm(context_, static_cast<T>(alpha), *gram_, Transpose::no, q, Transpose::no, static_cast<T>(beta),
                 z.view(), operands_);
            return;
        }
        const Block y = long_product(q, operands_);
        gemm(context_, static_cast<T>(alpha) * scale_, a_, wide_ ? Transpose::no : Transpose::yes, y, Transpose::no,
             static_cast<T>(beta), z.view(), operands_);
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

    /// Columns of q become an orthonormal basis of their span: roughly, as extract() makes up for the rest.
    void orthonormalize(Block& q, Block& scratch, bool /*to_working_accuracy*/) const {
        cpu::orthonormalize(context_, q, scratch, Orthonormal::roughly);
    }

    /// Eigenvalues of q^T z = q^T G q, descending.
    [[nodiscard]] std::vector<double> ritz_values(const Block& q, const Block& z) {
        auto t = Matrix<T>::uninitialized(q.cols(), q.cols());
        const MatrixView<const T> left = q.view();
        const MatrixView<const T> right = z.view();
        product(context_, Part::upper, Operands::exact, T{1}, left, Transpose::yes, right, Transpose::no, T{0},
                t.view());
        std::vector<double> values = symmetric_eigen<T>(context_, t.view(), false).values;
        projected_ = std::move(t);
        ritz_vectors_ = {};
        return values;
    }

    /// x = x V, V the eigenvectors of the last ritz_values().
    void rotate(Block& x) {
        if (ritz_vectors_.size() == 0) ritz_vectors_ = symmetric_eigen<T>(context_, projected_.view()).vt;
        Block rotated = block(x.cols());
        gemm(context_, T{1}, x, Transpose::no, ritz_vectors_, Transpose::yes, T{0}, rotated.view());
        x = std::move(rotated);
    }

    /// The best triplets that lie in the span of q, which is roughly orthonormal: from y = A q, never from G, so that
    /// their accuracy is A's.
    [[nodiscard]] Extraction extract(Block& q, std::int64_t rank) const {
        const Block y = long_product(q, Operands::exact);
        auto t = Matrix<T>::uninitialized(q.cols(), q.cols());
        gram(context_, T{1}, y, Transpose::yes, T{0}, t.view());
        // q (I - E) is orthonormal to working accuracy, E = (q^T q - I) / 2: what is left is of order E^2. In its terms
        // q is the identity and t is (I - E) t (I - E).
        const Matrix<T> e = half_excess(q);
        auto et = Matrix<T>::uninitialized(q.cols(), q.cols());
        gemm(context_, T{1}, e, Transpose::no, t, Transpose::no, T{0}, et.view());
        for (std::int64_t i = 0; i < t.rows(); ++i) {
            for (std::int64_t j = i; j < t.cols(); ++j) t(i, j) -= et(i, j) + et(j, i);
        }
        const SymmetricEigen<T> eigen = symmetric_eigen<T>(context_, t.view());
        const MatrixView<const T> leading = eigen.vt.view().block(0, 0, rank, q.cols());
        auto combination = Matrix<T>::uninitialized(rank, q.cols());
        std::copy_n(leading.data(), combination.size(), combination.data());
        gemm(context_, T{-1}, leading, Transpose::no, e, Transpose::no, T{1}, combination.view());
        Extraction result;
        result.ritz_values = eigen.values;
        result.long_side = Matrix<T>::uninitialized(y.rows(), rank);
        result.short_side = Matrix<T>::uninitialized(q.rows(), rank);
        gemm(context_, T{1}, y, Transpose::no, combination, Transpose::yes, T{0}, result.long_side.view());
        gemm(context_, T{1}, q, Transpose::no, combination, Transpose::yes, T{0}, result.short_side.view());
        // More accurate than the eigenvalues, as sums in double.
        const std::vector<double> norms = squared_norms(result.long_side);
        std::copy(norms.begin(), norms.end(), result.ritz_values.begin());
        return result;
    }

    /// Of the columns.
    [[nodiscard]] std::vector<double> squared_norms(const Block& y) const { return squared_column_norms(context_, y); }

    /// How much more energy the triplets have than apply() would show of their vectors: of some of them, for all.
    [[nodiscard]] double energy_lost_to_rounding(const Extraction& triplets) {
        if (operands_ == Operands::exact) return 0;
        // Vectors that are much alike, as those of a constant weight, lose much alike; they are among the leading ones.
        constexpr std::int64_t kLeading = 48;
        constexpr std::int64_t kEvery = 8;
        const std::int64_t rank = triplets.short_side.cols();
        std::vector<std::int64_t> chosen;
        for (std::int64_t k = 0; k < rank; k += k < kLeading ? 1 : kEvery) chosen.push_back(k);
        const auto count = static_cast<std::int64_t>(chosen.size());
        Block v = block(count);
        for_rows(v, [&](std::int64_t i) {
            for (std::int64_t k = 0; k < count; ++k)
                v(i, k) = triplets.short_side(i, chosen[static_cast<std::size_t>(k)]);
        });
        Block z = block(count);
        apply(1, v, 0, z);
        std::vector<double> shown(chosen.size());
        for (std::int64_t i = 0; i < z.rows(); ++i) {
            for (std::int64_t k = 0; k < count; ++k) {
                shown[static_cast<std::size_t>(k)] += static_cast<double>(v(i, k)) * static_cast<double>(z(i, k));
            }
        }
        double lost = 0;
        for (std::size_t k = 0; k < shown.size(); ++k) {
            const std::int64_t place = chosen[k];
            const double alike = static_cast<double>(place < kLeading ? 1 : std::min(kEvery, rank - place));
            lost += alike * (triplets.ritz_values[static_cast<std::size_t>(place)] - shown[k]);
        }
        return lost;
    }

private:
    /// Relative error of numbers of even spread of logarithms, rounded to 8 bits: (2^-7)^2 / 12 * 3 / (8 ln 2).
    static constexpr double kBf16Variance = 2.75e-6;

    /// (q^T q - I) / 2
    [[nodiscard]] Matrix<T> half_excess(const Block& q) const {
        auto e = Matrix<T>::uninitialized(q.cols(), q.cols());
        for (std::int64_t i = 0; i < e.rows(); ++i) {
            std::fill_n(e.row(i), e.cols(), T{0});
            e(i, i) = -T{1} / 2;
        }
        gram(context_, T{1} / 2, q, Transpose::yes, T{1}, e.view());
        return e;
    }

    void form_gram() {
        gram(context_, scale_ * scale_, a_, wide_ ? Transpose::no : Transpose::yes, T{0}, gram_->view(), operands_);
    }

    /// scale A q or scale A^T q: m x columns.
    [[nodiscard]] Block long_product(const Block& q, Operands operands) const {
        auto y = Block::uninitialized(std::max(a_.rows(), a_.cols()), q.cols());
        gemm(context_, scale_, a_, wide_ ? Transpose::yes : Transpose::no, q, Transpose::no, T{0}, y.view(), operands);
        return y;
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
    Operands operands_ = Operands::exact;
    std::optional<Matrix<T>> gram_;
    Matrix<T> projected_;     ///< q^T G q of the last ritz_values()
    Matrix<T> ritz_vectors_;  ///< of that, as rows; computed when they are asked for
};

}  // namespace lowrank::cpu::detail
