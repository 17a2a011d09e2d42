// lowrank - what a backend of subspace iteration on the CPU does with blocks of columns, whatever its matrix is.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/block_lanczos.hpp>
#include <lowrank/cpu/column_products.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/orthonormalize.hpp>
#include <lowrank/cpu/sparse_image.hpp>
#include <lowrank/cpu/symmetric_eigen.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>
#include <lowrank/subspace_model.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace lowrank::cpu::detail {

/// Rows of a block that one task of a loop over elements takes: 64 x 400 floats are 100 KiB.
inline constexpr std::int64_t kElementRows = 64;

/// Blocks of `order` rows.
template <ComputeScalar T>
class BlockOperations {
public:
    using Block = Matrix<T>;

    BlockOperations(const Context& context, std::int64_t order, std::uint64_t seed)
        : context_(context), order_(order), seed_(seed) {
        if (cpu::rounding_variance<T>(context.isa()) > 0) operands_ = Operands::rounded;
    }

    [[nodiscard]] std::int64_t order() const { return order_; }

    /// order() x columns independent entries of mean 0.
    [[nodiscard]] Block random_block(std::int64_t columns) const { return random_block(columns, seed_); }

    /// The sparse random block that sparse_start() multiplies G with.
    [[nodiscard]] Block sparse_block(std::int64_t columns) const {
        return SparseSigns<T>(order(), columns, seed_).dense();
    }

    /// x -= v (v^T x) for orthonormal v.
    void project_out(const Block& v, Block& x) const { detail::project_out(context_, const_view(v), x.view()); }
    [[nodiscard]] Block vectors(const BlockLanczos<T>& lanczos, std::int64_t count) const {
        return lanczos.vectors(context_, count);
    }
    /// v and x side by side.
    [[nodiscard]] Block joined(const Block& v, const Block& x) const {
        auto both = block(v.cols() + x.cols());
        for_rows(both, [&](std::int64_t i) {
            std::copy_n(x.row(i), x.cols(), std::copy_n(v.row(i), v.cols(), both.row(i)));
        });
        return both;
    }

    /// The same size, its entries still to be written.
    [[nodiscard]] Block block(std::int64_t columns) const { return Block::uninitialized(order(), columns); }

    /// Mean square of the relative error by which operands of apply() are rounded; 0 if they are not.
    [[nodiscard]] double rounding_variance() const {
        return operands_ == Operands::rounded ? cpu::rounding_variance<T>(context_.isa()) : 0;
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

    /// Columns of q become an orthonormal basis of their span: the more roughly where extraction follows, as
    /// leading_combination() makes up for the rest.
    void orthonormalize(Block& q, Block& scratch, bool before_extraction) const {
        cpu::orthonormalize(context_, q, scratch,
                            before_extraction ? Orthonormal::to_first_order : Orthonormal::roughly);
    }

    /// Eigenvalues of q^T z = q^T G q, descending.
    [[nodiscard]] std::vector<double> ritz_values(const Block& q, const Block& z) {
        projected_ = upper_product(q, z);
        ritz_vectors_ = {};
        return symmetric_eigen<T>(context_, projected_.view(), false).values;
    }

    /// x = x V, V the eigenvectors of the last ritz_values().
    void rotate(Block& x) {
        if (ritz_vectors_.size() == 0) ritz_vectors_ = symmetric_eigen<T>(context_, projected_.view()).vt;
        Block rotated = block(x.cols());
        gemm(context_, T{1}, x, Transpose::no, ritz_vectors_, Transpose::yes, T{0}, rotated.view());
        x = std::move(rotated);
    }

    /// x_k^T y_k of the columns.
    [[nodiscard]] std::vector<double> column_products(const Block& x, const Block& y) const {
        return detail::column_products(context_, x, y);
    }
    [[nodiscard]] std::vector<double> squared_norms(const Block& y) const { return column_products(y, y); }

protected:
    /// The upper triangle of q^T z.
    [[nodiscard]] Matrix<T> upper_product(const Block& q, const Block& z) const {
        auto t = Matrix<T>::uninitialized(q.cols(), q.cols());
        const MatrixView<const T> left = q.view();
        const MatrixView<const T> right = z.view();
        product(context_, Part::upper, Operands::exact, T{1}, left, Transpose::yes, right, Transpose::no, T{0},
                t.view());
        return t;
    }

    struct Combination {
        std::vector<double> values;  ///< Ritz values, descending; of all columns of q
        Matrix<T> rows;              ///< rank x columns: row k combines the columns of q to the k-th Ritz vector
    };

    /// The leading Ritz vectors in the span of q, which is roughly orthonormal, given t = q^T G q, exactly symmetric.
    [[nodiscard]] Combination leading_combination(const Block& q, Matrix<T> t, std::int64_t rank) const {
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
        Combination result{eigen.values, Matrix<T>::uninitialized(rank, q.cols())};
        std::copy_n(leading.data(), result.rows.size(), result.rows.data());
        gemm(context_, T{-1}, leading, Transpose::no, e, Transpose::no, T{1}, result.rows.view());
        return result;
    }

    template <class F>
    void for_rows(const Block& block, F&& body) const {
        context_.parallel_for((block.rows() + kElementRows - 1) / kElementRows, [&](std::int64_t part) {
            const std::int64_t end = std::min((part + 1) * kElementRows, block.rows());
            for (std::int64_t i = part * kElementRows; i < end; ++i) body(i);
        });
    }

    /// G times a sparse random block; of too few columns for that, nothing. For a G that is at hand.
    [[nodiscard]] Block sparse_start(MatrixView<const T> g, std::int64_t columns) const {
        return columns < kLeastSparseColumns ? Block() : sparse_image(context_, g, columns, seed_);
    }
    [[nodiscard]] Block random_block(std::int64_t columns, std::uint64_t seed) const {
        auto q = Block::uninitialized(order(), columns);
        for_rows(q, [&](std::int64_t i) {
            for (std::int64_t j = 0; j < columns; ++j) {
                q(i, j) =
                    static_cast<T>(lowrank::detail::random_entry(seed, static_cast<std::uint64_t>(i * columns + j)));
            }
        });
        return q;
    }
    /// Steps of Lanczos by `apply(q, z)`, from vectors that are independent of random_block().
    template <class Apply>
    [[nodiscard]] BlockLanczos<T> lanczos(std::int64_t columns, int steps, Apply&& apply) const {
        constexpr std::uint64_t kOtherStream = 0x6c616e637a6f73;
        return BlockLanczos<T>(context_, random_block(columns, seed_ ^ kOtherStream), steps, apply);
    }

    const Context& context_;
    Operands operands_ = Operands::exact;  ///< of apply()

private:
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

    std::int64_t order_;
    std::uint64_t seed_;
    Matrix<T> projected_;     ///< q^T G q of the last ritz_values(), its upper triangle
    Matrix<T> ritz_vectors_;  ///< of that, as rows; computed when they are asked for
};

/// Random vectors and G times these: the sparse ones that `image` is the image of, if it has that many columns.
template <class Backend, class Block>
std::pair<Block, Block> random_start(Backend& backend, Block image, std::int64_t columns) {
    if (image.cols() == columns) return {backend.sparse_block(columns), std::move(image)};
    Block x = backend.random_block(columns);
    image = backend.block(columns);
    backend.apply(1, x, 0, image);
    return {std::move(x), std::move(image)};
}

/// Some columns of a block, and G times these.
template <class Backend, ComputeScalar T>
std::pair<Matrix<T>, Matrix<T>> with_image(Backend& backend, const Matrix<T>& vectors,
                                           const std::vector<std::int64_t>& places) {
    const auto count = static_cast<std::int64_t>(places.size());
    Matrix<T> v = backend.block(count);
    for (std::int64_t i = 0; i < v.rows(); ++i) {
        for (std::int64_t k = 0; k < count; ++k) v(i, k) = vectors(i, places[static_cast<std::size_t>(k)]);
    }
    Matrix<T> z = backend.block(count);
    backend.apply(1, v, 0, z);
    return {std::move(v), std::move(z)};
}

/// ||G v_k - theta_k v_k||^2 of some of the vectors, each for as many as it stands for.
template <class Backend, ComputeScalar T>
std::vector<lowrank::detail::Residual> sampled_residuals(Backend& backend, const Matrix<T>& vectors,
                                                         const std::vector<double>& ritz_values) {
    // The first, some of which come from Lanczos, the last, which converge last, and every eighth of the rest.
    constexpr std::int64_t kEnd = 16;
    constexpr std::int64_t kEvery = 8;
    const std::int64_t rank = vectors.cols();
    std::vector<lowrank::detail::Residual> result;
    for (std::int64_t k = 0; k < rank;) {
        const bool each = k < kEnd || k >= rank - kEnd;
        const std::int64_t next = each ? k + 1 : std::min(k + kEvery, rank - kEnd);
        result.push_back({k + (next - k) / 2, static_cast<double>(next - k), 0});
        k = next;
    }
    std::vector<std::int64_t> places;
    for (const lowrank::detail::Residual& one : result) places.push_back(one.place);
    auto [v, z] = with_image(backend, vectors, places);
    for (std::int64_t i = 0; i < v.rows(); ++i) {
        for (std::int64_t k = 0; k < v.cols(); ++k) {
            const std::int64_t place = places[static_cast<std::size_t>(k)];
            z(i, k) -= static_cast<T>(ritz_values[static_cast<std::size_t>(place)]) * v(i, k);
        }
    }
    const std::vector<double> squares = backend.squared_norms(z);
    for (std::size_t k = 0; k < squares.size(); ++k) result[k].squared = squares[k];
    return result;
}

/// How much more energy orthonormal `vectors` have, by their `ritz_values`, than backend.apply() would show of them: of
/// some of them, for all. Vectors that are much alike, as those of a constant weight, lose much alike; they are among
/// the leading ones.
template <class Backend, ComputeScalar T>
double energy_lost_to_rounding(Backend& backend, const Matrix<T>& vectors, const std::vector<double>& ritz_values) {
    if (backend.rounding_variance() == 0) return 0;
    // The leading directions, which lose most, and every eighth of the rest.
    constexpr std::int64_t kLeading = 48;
    constexpr std::int64_t kEvery = 8;
    const std::int64_t rank = vectors.cols();
    std::vector<std::int64_t> chosen;
    for (std::int64_t k = 0; k < rank; k += k < kLeading ? 1 : kEvery) chosen.push_back(k);
    const auto [v, z] = with_image(backend, vectors, chosen);
    const std::vector<double> shown = backend.column_products(v, z);
    double lost = 0;
    for (std::size_t k = 0; k < shown.size(); ++k) {
        const std::int64_t place = chosen[k];
        const double alike = static_cast<double>(place < kLeading ? 1 : std::min(kEvery, rank - place));
        lost += alike * (ritz_values[static_cast<std::size_t>(place)] - shown[k]);
    }
    return lost;
}

}  // namespace lowrank::cpu::detail
