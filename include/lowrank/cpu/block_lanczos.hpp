// lowrank - a few steps of block Lanczos: what the spectrum of a symmetric matrix looks like, and its leading vectors.
// SPDX-License-Identifier: MIT
//
// By Golub, Underwood (1977), with full orthogonalisation, as leading Ritz values converge within the few steps: blocks
// are projected and normalised twice, in turns, since normalising an ill-conditioned block brings back what was
// projected out (Barlow, Smoktunowicz 2013).
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/orthonormalize.hpp>
#include <lowrank/cpu/symmetric_eigen.hpp>
#include <lowrank/filter_design.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace lowrank::cpu::detail {

/// x -= q (q^T x) for orthonormal columns of q.
template <ComputeScalar T>
void project_out(const Context& context, MatrixView<const T> q, MatrixView<T> x) {
    auto inner = Matrix<T>::uninitialized(q.cols(), x.cols());
    gemm(context, T{1}, q, Transpose::yes, x, Transpose::no, T{0}, inner.view());
    gemm(context, T{-1}, q, Transpose::no, inner, Transpose::no, T{1}, x);
}

template <ComputeScalar T>
class BlockLanczos {
public:
    /// `steps`, two or more, products, z = G q by `apply(q, z)`, with blocks of as many columns as `start`, which is
    /// overwritten. There must be more rows than steps times columns.
    template <class Apply>
    BlockLanczos(const Context& context, Matrix<T> start, int steps, Apply&& apply)
        : block_(start.cols()), basis_(Matrix<T>::uninitialized(start.rows(), block_ * steps)) {
        auto images = Matrix<T>::uninitialized(start.rows(), block_ * steps);
        Matrix<T> q = std::move(start);
        auto z = Matrix<T>::uninitialized(q.rows(), block_);
        for (int step = 0; step < steps; ++step) {
            const std::int64_t column = step * block_;
            const MatrixView<const T> before = basis_.view().block(0, 0, basis_.rows(), column);
            for (int time = 0; time < 2; ++time) {
                if (step > 0) project_out(context, before, q.view());
                cpu::orthonormalize(context, q, z, Orthonormal::roughly);
            }
            copy_columns(q, basis_, column);
            apply(std::as_const(q), z);
            copy_columns(z, images, column);
            std::swap(q, z);
        }
        auto product = Matrix<T>::uninitialized(block_ * steps, block_ * steps);
        gemm(context, T{1}, basis_, Transpose::yes, images, Transpose::no, T{0}, product.view());
        auto projected = Matrix<double>::uninitialized(product.rows(), product.cols());
        for (std::int64_t i = 0; i < product.rows(); ++i) {
            for (std::int64_t j = 0; j < product.cols(); ++j) {
                projected(i, j) = (static_cast<double>(product(i, j)) + static_cast<double>(product(j, i))) / 2;
            }
        }
        eigen_ = symmetric_eigen<double>(context, const_view(projected));
        const std::int64_t shorter = block_ * (steps - 1);
        shorter_eigen_ = symmetric_eigen<double>(context, const_view(projected).block(0, 0, shorter, shorter));
    }

    [[nodiscard]] lowrank::detail::LanczosSpectrum spectrum() const { return spectrum_of(eigen_); }
    /// As it was one step before.
    [[nodiscard]] lowrank::detail::LanczosSpectrum shorter_spectrum() const { return spectrum_of(shorter_eigen_); }

    /// The leading Ritz vectors, orthonormal.
    [[nodiscard]] Matrix<T> vectors(const Context& context, std::int64_t count) const {
        auto rows = Matrix<T>::uninitialized(count, basis_.cols());
        for (std::size_t i = 0; i < rows.size(); ++i) rows.data()[i] = static_cast<T>(eigen_.vt.data()[i]);
        auto v = Matrix<T>::uninitialized(basis_.rows(), count);
        gemm(context, T{1}, basis_, Transpose::no, rows, Transpose::yes, T{0}, v.view());
        return v;
    }

private:
    [[nodiscard]] lowrank::detail::LanczosSpectrum spectrum_of(const SymmetricEigen<double>& eigen) const {
        lowrank::detail::LanczosSpectrum result{eigen.values, {}, block_};
        for (std::int64_t k = 0; k < eigen.vt.rows(); ++k) {
            double squares = 0;
            for (std::int64_t j = 0; j < block_; ++j) squares += eigen.vt(k, j) * eigen.vt(k, j);
            result.weights.push_back(squares / static_cast<double>(block_));
        }
        return result;
    }

    static void copy_columns(const Matrix<T>& from, Matrix<T>& to, std::int64_t column) {
        for (std::int64_t i = 0; i < from.rows(); ++i) std::copy_n(from.row(i), from.cols(), to.row(i) + column);
    }

    std::int64_t block_;
    Matrix<T> basis_;
    SymmetricEigen<double> eigen_;          ///< of basis^T G basis
    SymmetricEigen<double> shorter_eigen_;  ///< of the part of that from all steps but the last
};

}  // namespace lowrank::cpu::detail
