// lowrank - leading directions taken out of a symmetric matrix, so that what remains can be multiplied rounded.
// SPDX-License-Identifier: MIT
//
// Rounded products (gemm.hpp) are off by a part of their operands' norms. Where few directions hold nearly all of
// those, as with outlier features, the others drown. For any n x d matrix V
//
//     G = G' + V W^T + W V^T,   G' = (I - V V^T) G (I - V V^T),   W = G V - V (V^T G V) / 2,
//
// and with V near to the leading eigenvectors G' is small: it is multiplied rounded, the rest, 8 n d operations for a
// column, in float. Errors of V count squared: ||G'|| is the next eigenvalue and what is left of V's residual.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstdint>

namespace lowrank::cpu::detail {

template <ComputeScalar T>
class Deflation {
public:
    Deflation() = default;  ///< of nothing
    /// `gv` is G v.
    template <ComputeScalar E>
    Deflation(const Context& context, const Matrix<E>& v, const Matrix<E>& gv)
        : vw_(Matrix<T>::uninitialized(v.rows(), 2 * v.cols())), wv_(Matrix<T>::uninitialized(v.rows(), 2 * v.cols())) {
        const std::int64_t d = v.cols();
        Matrix<E> inner(d, d);
        gemm(context, E{1}, v, Transpose::yes, gv, Transpose::no, E{0}, inner.view());
        Matrix<E> w = gv;
        gemm(context, -E{1} / 2, v, Transpose::no, inner, Transpose::no, E{1}, w.view());
        const auto copy = [d](const E* from, T* to) {
            std::transform(from, from + d, to, [](E value) { return static_cast<T>(value); });
        };
        for (std::int64_t i = 0; i < v.rows(); ++i) {
            copy(v.row(i), vw_.row(i));
            copy(w.row(i), vw_.row(i) + d);
            copy(w.row(i), wv_.row(i));
            copy(v.row(i), wv_.row(i) + d);
        }
    }

    [[nodiscard]] bool empty() const { return vw_.size() == 0; }

    /// z += alpha (V W^T + W V^T) q
    void add(const Context& context, T alpha, MatrixView<const T> q, MatrixView<T> z) const {
        auto inner = Matrix<T>::uninitialized(wv_.cols(), q.cols());
        gemm(context, T{1}, wv_, Transpose::yes, q, Transpose::no, T{0}, inner.view());
        gemm(context, alpha, vw_, Transpose::no, inner, Transpose::no, T{1}, z);
    }
    /// `g`, the block of G that begins at (row, column), becomes that of G'.
    void take_from(const Context& context, std::int64_t row, std::int64_t column, MatrixView<T> g) const {
        gemm(context, T{-1}, vw_.view().block(row, 0, g.rows(), vw_.cols()), Transpose::no,
             wv_.view().block(column, 0, g.cols(), wv_.cols()), Transpose::yes, T{1}, g);
    }
    /// V and W side by side.
    [[nodiscard]] MatrixView<const T> vw() const { return vw_.view(); }

private:
    Matrix<T> vw_, wv_;  ///< n x 2 d: V and W side by side, W and V
};

/// The first columns of a block.
template <ComputeScalar T>
Matrix<T> first_columns(const Matrix<T>& block, std::int64_t count) {
    auto first = Matrix<T>::uninitialized(block.rows(), count);
    for (std::int64_t i = 0; i < block.rows(); ++i) std::copy_n(block.row(i), count, first.row(i));
    return first;
}

}  // namespace lowrank::cpu::detail
