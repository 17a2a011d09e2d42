// lowrank - the weight as subspace iteration sees it on the device: products with its Gram matrix, and Rayleigh-Ritz.
// SPDX-License-Identifier: MIT
//
// The device's half of <lowrank/subspace_iteration.hpp>, which says what the members mean. By cuBLAS and cuSOLVER
// alone.
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/orthonormalize.hpp>
#include <lowrank/cuda/scratch.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/vendor/solver.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cuda::detail {

/// Leading singular triplets of the tall weight, column-major.
template <ComputeScalar C>
struct LeadingTriplets {
    std::vector<double> ritz_values;    ///< squares of the singular values, descending; of all columns of the block
    Matrix<C, DeviceSpace> long_side;   ///< m x rank: singular vectors times singular values
    Matrix<C, DeviceSpace> short_side;  ///< n x rank: orthonormal
};

/// A backend of SubspaceIteration: G = A^T A of order n for a tall, contiguous, column-major A (m x n).
template <ComputeScalar C>
class GramOperator {
public:
    /// Column-major: `values` is columns x n as a row-major matrix.
    using Block = Matrix<C, DeviceSpace>;
    using Extraction = LeadingTriplets<C>;

    /// `products` is how many products of G with `columns` columns are expected: G is formed if that is cheaper than
    /// going through A twice each time.
    GramOperator(Context& context, const C* tall, std::int64_t m, std::int64_t n, std::uint64_t seed,
                 std::int64_t columns, int products, std::string name)
        : context_(context),
          tall_(tall),
          m_(m),
          n_(n),
          seed_(seed),
          name_(std::move(name)),
          orthonormal_(context, n, columns, name_),
          long_(columns, m),
          small_(columns, columns),
          projected_(columns, columns),
          values_(1, columns),
          eigen_bytes_(vendor::syevd_workspace<C>(context.solver(), context.solver_parameters(), columns, name_)),
          eigen_workspace_(1, static_cast<std::int64_t>(eigen_bytes_.device)),
          eigen_host_(eigen_bytes_.host),
          info_(1, 1) {
        const auto order = static_cast<double>(n);
        const double through_a = 4 * static_cast<double>(m) * order;
        const double block = static_cast<double>(columns) * products;
        if (2 * static_cast<double>(m) * order * order + 2 * order * order * block > through_a * block) return;
        gram_ = Matrix<C, DeviceSpace>(n, n);
        vendor::gemm<C>(context.blas(), n, n, m, 1, {tall, m, true}, {tall, m}, 0, gram_->data(), n, name_);
    }
    GramOperator(const GramOperator&) = delete;
    GramOperator& operator=(const GramOperator&) = delete;
    /// Work in flight uses this object's host memory.
    ~GramOperator() { static_cast<void>(cudaStreamSynchronize(context_.stream())); }

    [[nodiscard]] std::int64_t order() const { return n_; }

    /// G times random vectors.
    [[nodiscard]] Block random_image(std::int64_t columns) {
        Block image = block(columns);
        apply(1, context_.random_block<C>(n_, columns, seed_), 0, image);
        return image;
    }

    /// Not initialised.
    [[nodiscard]] Block block(std::int64_t columns) const { return Block(columns, n_); }

    /// z = alpha G q + beta z
    void apply(double alpha, const Block& q, double beta, Block& z) {
        const std::int64_t l = q.rows();
        if (gram_) {
            vendor::gemm<C>(context_.blas(), n_, l, n_, static_cast<C>(alpha), {gram_->data(), n_}, {q.data(), n_},
                            static_cast<C>(beta), z.data(), n_, name_);
            return;
        }
        long_product(q);
        vendor::gemm<C>(context_.blas(), n_, l, m_, static_cast<C>(alpha), {tall_, m_, true}, {long_.data(), m_},
                        static_cast<C>(beta), z.data(), n_, name_);
    }

    /// y += alpha x
    void add(double alpha, const Block& x, Block& y) {
        vendor::add_scaled<C>(context_.blas(), n_, y.rows(), static_cast<C>(alpha), x.data(), y.data(), name_);
    }

    void scale(double alpha, Block& x) {
        vendor::scale(context_.blas(), static_cast<std::int64_t>(x.size()), static_cast<C>(alpha), x.data(), name_);
    }

    /// Always to working accuracy: one pass with a Gram matrix in the compute type is not enough for the next product.
    void orthonormalize(Block& q, Block& /*scratch*/, bool /*before_extraction*/) { orthonormal_.run(q); }

    /// Eigenvalues of q^T z = q^T G q, descending.
    [[nodiscard]] std::vector<double> ritz_values(const Block& q, const Block& z) {
        const std::int64_t l = q.rows();
        vendor::gemm<C>(context_.blas(), l, l, n_, -1, {q.data(), n_, true}, {z.data(), n_}, 0, projected_.data(), l,
                        name_);
        copy(context_, std::as_const(projected_).view(), small_.view());
        has_ritz_vectors_ = false;
        return negated_eigen(l, false);
    }

    /// x = x V, V the eigenvectors of the last ritz_values().
    void rotate(Block& x) {
        const std::int64_t l = x.rows();
        if (!has_ritz_vectors_) {
            copy(context_, std::as_const(projected_).view(), small_.view());
            static_cast<void>(negated_eigen(l, true));
            has_ritz_vectors_ = true;
        }
        // n x l, in the memory of m x l.
        const MatrixView<C, DeviceSpace> rotated(long_.data(), l, n_);
        vendor::gemm<C>(context_.blas(), n_, l, l, 1, {x.data(), n_}, {small_.data(), l}, 0, rotated.data(), n_, name_);
        copy<C>(context_, MatrixView<const C, DeviceSpace>(rotated), x.view());
    }

    /// The best triplets that lie in the span of q, which is orthonormal: from y = A q, never from G, so that their
    /// accuracy is A's.
    [[nodiscard]] Extraction extract(const Block& q, std::int64_t rank) {
        const std::int64_t l = q.rows();
        long_product(q);
        vendor::gemm<C>(context_.blas(), l, l, m_, -1, {long_.data(), m_, true}, {long_.data(), m_}, 0, small_.data(),
                        l, name_);
        Extraction result;
        result.ritz_values = negated_eigen(l, true);
        result.long_side = Matrix<C, DeviceSpace>(rank, m_);
        result.short_side = Matrix<C, DeviceSpace>(rank, n_);
        vendor::gemm<C>(context_.blas(), m_, rank, l, 1, {long_.data(), m_}, {small_.data(), l}, 0,
                        result.long_side.data(), m_, name_);
        vendor::gemm<C>(context_.blas(), n_, rank, l, 1, {q.data(), n_}, {small_.data(), l}, 0,
                        result.short_side.data(), n_, name_);
        return result;
    }

private:
    /// long_ = A q
    void long_product(const Block& q) {
        vendor::gemm<C>(context_.blas(), m_, q.rows(), n_, 1, {tall_, m_}, {q.data(), n_}, 0, long_.data(), m_, name_);
    }

    /// Of minus the matrix in small_: ascending there is descending here. The vectors take its place.
    std::vector<double> negated_eigen(std::int64_t l, bool vectors) {
        vendor::syevd(context_.solver(), context_.solver_parameters(), vectors, l, small_.data(), values_.data(),
                      eigen_workspace_.data(), eigen_host_, eigen_bytes_, info_.data(), name_);
        int info = 0;
        download(context_, info_.data(), 1, &info);
        if (info != 0) {
            throw BackendError("the eigensolver of " + name_ + ", did not converge on the device (info " +
                               std::to_string(info) + ")");
        }
        std::vector<C> negated(static_cast<std::size_t>(l));
        download(context_, values_.data(), l, negated.data());
        std::vector<double> values(negated.size());
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = -static_cast<double>(negated[i]);
        return values;
    }

    Context& context_;
    const C* tall_;
    std::int64_t m_;
    std::int64_t n_;
    std::uint64_t seed_;
    std::string name_;
    Orthonormalizer<C> orthonormal_;
    Matrix<C, DeviceSpace> long_;       // m x columns, column-major
    Matrix<C, DeviceSpace> small_;      // columns x columns
    Matrix<C, DeviceSpace> projected_;  // -q^T G q of the last ritz_values()
    bool has_ritz_vectors_ = false;     // in small_
    Matrix<C, DeviceSpace> values_;
    vendor::SolverWorkspace eigen_bytes_;
    Matrix<std::byte, DeviceSpace> eigen_workspace_;
    std::vector<std::byte> eigen_host_;
    Matrix<int, DeviceSpace> info_;
    std::optional<Matrix<C, DeviceSpace>> gram_;
};

}  // namespace lowrank::cuda::detail
