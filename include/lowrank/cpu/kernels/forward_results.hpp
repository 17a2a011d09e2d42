// lowrank - where the forward path's products leave their tiles: in Y, or in the rows of the second product.
// SPDX-License-Identifier: MIT
//
// A tile's kernel leaves its sums where the result belongs if they have that type and place, else in a thread's scratch
// memory. Both classes here say which, and take them from there.
#pragma once

#include <lowrank/cpu/kernels/forward_plan.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace lowrank::cpu::detail {

/// Where the sums of a tile go, its rows `stride` elements apart.
struct ForwardPlace {
    void* data = nullptr;
    std::int64_t stride = 0;
    bool rounded = false;  ///< as the storage type, which takes a sum that has no parts
};

/// A block of rows of Y.
template <class C, class Out>
class ForwardOutput {
public:
    /// `bias` has Y's columns or is null.
    ForwardOutput(MatrixView<Out> y, const C* bias, StoreRows<C, Out> store) : y_(y), bias_(bias), store_(store) {}

    /// For `rows` x `columns` sums from (row, column) on, which may come in `parts`, or be rounded by the kernel. Null:
    /// they are to go elsewhere.
    [[nodiscard]] ForwardPlace place(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
                                     bool parts, bool can_round) const {
        constexpr bool kRounded = !std::is_same_v<Out, C>;
        const bool whole = row + rows <= y_.rows() && column + columns <= y_.cols();
        // From one part to the next Y's rows would have to stay in the cache.
        if (bias_ != nullptr || !whole || (kRounded ? parts || !can_round : parts && aliases(y_))) return {};
        return {y_.row(row) + column, y_.leading_dimension(), kRounded};
    }
    /// Takes finished sums.
    void take(const ForwardPlace& from, std::int64_t row, std::int64_t rows, std::int64_t column,
              std::int64_t columns) const {
        Out* to = y_.row(row) + column;
        if (from.data == to) return;
        store_(static_cast<const C*>(from.data), from.stride, bias_ == nullptr ? nullptr : bias_ + column,
               std::min(rows, y_.rows() - row), std::min(columns, y_.cols() - column), to, y_.leading_dimension());
    }

private:
    MatrixView<Out> y_;
    const C* bias_;
    StoreRows<C, Out> store_;
};

/// A block of rows of X W1, as `product` takes them.
template <class T>
class ForwardMiddle {
public:
    using C = compute_t<T>;

    ForwardMiddle(Isa isa, const ForwardProduct<T>& product, std::int64_t rank, std::byte* rows)
        : isa_(isa), pairs_(product.kernels.pairs), rank_(rank), row_bytes_(product.row_bytes(rank)), rows_(rows) {}

    [[nodiscard]] ForwardPlace place(std::int64_t row, std::int64_t /*rows*/, std::int64_t column,
                                     std::int64_t /*columns*/, bool parts, bool can_round) const {
        if (!pairs_) return {at<C>(row, column), stride<C>(), false};
        if (parts || !can_round) return {};
        return {at<bf16>(row, column), stride<bf16>(), true};
    }
    void take(const ForwardPlace& from, std::int64_t row, std::int64_t rows, std::int64_t column,
              std::int64_t columns) const {
        if constexpr (std::is_same_v<T, bf16>) {
            if (pairs_) {
                if (!from.rounded) {
                    store_rows_for<C, bf16>(isa_)(static_cast<const C*>(from.data), from.stride, nullptr, rows, columns,
                                                  at<bf16>(row, column), stride<bf16>());
                }
                return clear_pad<bf16>(row, rows, column, columns);
            }
        }
        clear_pad<C>(row, rows, column, columns);
    }

private:
    template <class Entry>
    [[nodiscard]] Entry* at(std::int64_t row, std::int64_t column) const {
        return reinterpret_cast<Entry*>(rows_ + row * row_bytes_) + column;
    }
    template <class Entry>
    [[nodiscard]] std::int64_t stride() const {
        return row_bytes_ / static_cast<std::int64_t>(sizeof(Entry));
    }
    /// What pads an odd rank may be NaN, from X's infinities times the padding of W1: it must not meet that of W2.
    template <class Entry>
    void clear_pad(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) const {
        if (rank_ % kStoredPerStep<T> == 0 || rank_ < column || rank_ >= column + columns) return;
        for (std::int64_t i = row; i < row + rows; ++i) *at<Entry>(i, rank_) = Entry{};
    }

    Isa isa_;
    bool pairs_;
    std::int64_t rank_, row_bytes_;
    std::byte* rows_;
};

}  // namespace lowrank::cpu::detail
