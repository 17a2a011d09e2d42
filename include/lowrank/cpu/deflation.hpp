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
    Deflation(const Context& context, const Matrix<T>& v, const Matrix<T>& gv)
        : vw_(Matrix<T>::uninitialized(v.rows(), 2 * v.cols())), wv_(Matrix<T>::uninitialized(v.rows(), 2 * v.cols())) {
        const std::int64_t d = v.cols();
        Matrix<T> inner(d, d);
        gemm(context, T{1}, v, Transpose::yes, gv, Transpose::no, T{0}, inner.view());
        Matrix<T> w = gv;
        gemm(context, -T{1} / 2, v, Transpose::no, inner, Transpose::no, T{1}, w.view());
        for (std::int64_t i = 0; i < v.rows(); ++i) {
            std::copy_n(v.row(i), d, vw_.row(i));
            std::copy_n(w.row(i), d, vw_.row(i) + d);
            std::copy_n(w.row(i), d, wv_.row(i));
            std::copy_n(v.row(i), d, wv_.row(i) + d);
        }
    }

    [[nodiscard]] bool empty() const { return vw_.size() == 0; }

    /// z += alpha (V W^T + W V^T) q
    void add(const Context& context, T alpha, MatrixView<const T> q, MatrixView<T> z) const {
        auto inner = Matrix<T>::uninitialized(wv_.cols(), q.cols());
        gemm(context, T{1}, wv_, Transpose::yes, q, Transpose::no, T{0}, inner.view());
        gemm(context, alpha, vw_, Transpose::no, inner, Transpose::no, T{1}, z);
    }
    /// G becomes G'.
    void take_from(const Context& context, MatrixView<T> g) const {
        gemm(context, T{-1}, vw_, Transpose::no, wv_, Transpose::yes, T{1}, g);
    }

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
