// lowrank - the root of a weighting in the type that is computed in, and products with it.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/gram_root.hpp>
#include <lowrank/cpu/triangular.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

namespace lowrank::cpu::detail {

/// S = P L of a GramRoot without its power of two, or the identity. Borrows the root.
template <ComputeScalar T>
class RootIn {
public:
    /// `root` may be null: the identity of that width.
    RootIn(const Context& context, const GramRoot* root, std::int64_t width) : context_(context), root_(root) {
        if (root == nullptr) {
            order_.resize(static_cast<std::size_t>(width));
            std::iota(order_.begin(), order_.end(), std::int64_t{0});
            return;
        }
        order_ = root->order;
        if constexpr (!std::is_same_v<T, double>) {
            lower_ = Matrix<T>::uninitialized(width, width);
            context.parallel_for(width, [&](std::int64_t i) {
                std::transform(root->lower.row(i), root->lower.row(i) + width, lower_.row(i),
                               [](double value) { return static_cast<T>(value); });
            });
        }
    }

    [[nodiscard]] bool identity() const { return root_ == nullptr; }
    /// L, as T or as it is.
    template <ComputeScalar E = T>
    [[nodiscard]] MatrixView<const E> lower() const {
        if constexpr (std::is_same_v<E, double>) {
            return root_->lower.view();
        } else {
            return lower_.view();
        }
    }
    /// Where the entry that is i-th in L is in the weight.
    [[nodiscard]] std::int64_t place(std::int64_t i) const { return order_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] int exponent() const { return root_ == nullptr ? 0 : root_->exponent; }

    /// S x
    template <ComputeScalar E>
    [[nodiscard]] Matrix<E> times(const Matrix<E>& x) const {
        if (identity()) return x;
        const Matrix<E> product = lower_times(context_, lower<E>(), x.view());
        auto result = Matrix<E>::uninitialized(x.rows(), x.cols());
        for (std::int64_t i = 0; i < x.rows(); ++i) std::copy_n(product.row(i), x.cols(), result.row(place(i)));
        return result;
    }
    /// S^T x
    template <ComputeScalar E>
    [[nodiscard]] Matrix<E> transposed_times(const Matrix<E>& x) const {
        if (identity()) return x;
        auto ordered = Matrix<E>::uninitialized(x.rows(), x.cols());
        for (std::int64_t i = 0; i < x.rows(); ++i) std::copy_n(x.row(place(i)), x.cols(), ordered.row(i));
        return lower_transposed_times(context_, lower<E>(), const_view(ordered));
    }
    /// S^T p S, exactly symmetric, of a symmetric p.
    [[nodiscard]] Matrix<T> congruence(const Matrix<T>& p) const {
        if (identity()) return p;
        auto ordered = Matrix<T>::uninitialized(p.rows(), p.cols());
        context_.parallel_for(p.rows(), [&](std::int64_t i) {
            for (std::int64_t j = 0; j < p.cols(); ++j) ordered(i, j) = p(place(i), place(j));
        });
        const Matrix<T> left = lower_transposed_times(context_, lower(), const_view(ordered));
        Matrix<T> result = times_lower(context_, left.view(), lower());
        mirror_upper(context_, result.view());
        return result;
    }

private:
    const Context& context_;
    const GramRoot* root_;
    std::vector<std::int64_t> order_;
    Matrix<T> lower_;
};

}  // namespace lowrank::cpu::detail
