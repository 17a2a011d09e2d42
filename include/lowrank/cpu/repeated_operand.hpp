// lowrank - a matrix that is multiplied many times, packed once.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <cstdint>
#include <type_traits>

namespace lowrank::cpu::detail {

/// A, m x k, packed for C = alpha A B + beta C with many B: the same bits as product() computes each time.
template <ComputeScalar E>
class RepeatedOperand {
public:
    RepeatedOperand(const Context& context, MatrixView<const E> a, Operands operands)
        : rows_(a.rows()), depth_(a.cols()), operands_(operands) {
        with_tile<E, E, E>(
            context.isa(), operands, [&]<class P, class As>(const GemmTile<E, P>& tile, int elements, As as) {
                packed<P>(*this) =
                    PackedRows<P>(context, tile, elements, PackedFrom<P>(source(a.data(), a.leading_dimension()), as));
            });
    }

    /// The context must have the level of the one that packed.
    void multiply(const Context& context, E alpha, MatrixView<const E> b, E beta, MatrixView<E> c) const {
        if (c.empty()) return;
        const PackSource<E> columns{b.data(), b.leading_dimension(), true, c.cols(), depth_};
        with_tile<E, E, E>(
            context.isa(), operands_, [&]<class P, class As>(const GemmTile<E, P>& tile, int elements, As as) {
                GemmRun<P, E>(context, tile, elements, Part::all, alpha, PackedFrom<P>(source(nullptr, 0), as),
                              PackedFrom<P>(columns, as), beta, c.data(), c.leading_dimension(), &packed<P>(*this));
            });
    }

private:
    [[nodiscard]] PackSource<E> source(const E* data, std::int64_t stride) const {
        return {data, stride, false, rows_, depth_};
    }

    template <class P, class Self>
    static auto& packed(Self& self) {
        if constexpr (std::is_same_v<P, E>) {
            return self.values_;
        } else {
            return self.pairs_;
        }
    }

    std::int64_t rows_, depth_;
    Operands operands_;
    PackedRows<E> values_;             ///< one of them is used
    PackedRows<std::uint32_t> pairs_;  ///< of 16 bits
};

}  // namespace lowrank::cpu::detail
