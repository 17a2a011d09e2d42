// lowrank - general and symmetric products on the CPU: C = alpha op(A) op(B) + beta C.
// SPDX-License-Identifier: MIT
//
// Row-major operands with leading dimensions; op(X) is X or its transpose. Storage types may differ:
//
//     A, B                       C        computed as
//     float, bf16, f16 in any    float    float, 16-bit elements widened (exactly) while they are packed;
//       combination                       bf16 x bf16 by bf16 dot products where the level has them
//     double, float in any       double   double
//       combination
//
// With Operands::rounded they become integers of 16 bits where that is faster (kernels/pack_fixed.hpp): then the bound
// below holds for the rounded operands.
//
// 2 M N K operations; O(1) blocks of scratch memory are allocated per call. Within a level the result is equal in bits
// for any number of threads: an element is the sum over blocks of the inner dimension, in order, of sums in order.
// |error| <= gamma_{K + 2} |alpha| |A| |B| elementwise (plus beta's rounding), gamma_k = k u / (1 - k u), u the unit
// roundoff of C's type. NaN and infinity propagate as in that sum. The bf16 dot product takes subnormals as zero.
//
//     lowrank::cpu::Context cpu;
//     gemm(cpu, 1.0F, w, Transpose::yes, q, Transpose::no, 0.0F, y.view());   // y = w^T q
//     gram(cpu, 1.0, q, Transpose::yes, 0.0, g.view());                         // g = q^T q, float in, double out
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/gemm_kernels.hpp>
#include <lowrank/cpu/kernels/gemm_operands.hpp>
#include <lowrank/cpu/kernels/gemm_run.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>

namespace lowrank::cpu {

/// Whether an operand enters a product as it is stored or transposed.
enum class Transpose : bool { no, yes };

/// Whether operands of a product in float may be rounded where that makes it faster: to 16-bit integers in units of
/// their lanes, of which AVX512-VNNI multiplies twice as many and AVX2 1.5 times as many (Zen 3: 200 GFLOP/s against
/// 130). On the other levels nothing is rounded, nor are two operands in bf16 where the level has their dot product.
enum class Operands : bool { exact, rounded };

/// Mean square of the errors of rounded operands that are stored as S, in terms of the operands' own, where not both
/// are bf16; 0 where nothing is rounded.
template <Scalar S>
double rounding_variance(Isa isa) {
    const bool rounds = !std::is_same_v<S, double> && detail::has_fixed_tile(isa);
    return rounds ? detail::fixed_variance(2 * detail::kBlockSteps) : 0;
}

/// Elements of S can be an operand of a product accumulated in C.
template <class S, class C>
concept OperandOf = Scalar<S> && ComputeScalar<C> &&
    (std::is_same_v<C, double> ? std::is_same_v<S, double> || std::is_same_v<S, float> : !std::is_same_v<S, double>);

namespace detail {

template <class S>
std::string operand_string(MatrixView<const S> x, Transpose transpose) {
    return shape_string(x.rows(), x.cols()) + (transpose == Transpose::yes ? " transposed" : "");
}

/// C = beta C, of the wanted part. beta = 0 does not read C.
template <class E>
void scale(Part part, E beta, MatrixView<E> c) {
    for (std::int64_t i = 0; i < c.rows(); ++i) {
        for (std::int64_t j = part == Part::upper ? i : 0; j < c.cols(); ++j) {
            c(i, j) = beta == E{0} ? E{0} : beta * c(i, j);
        }
    }
}

/// Calls run(tile, elements of the inner dimension in a step, how to pack) with what multiplies operands of these
/// types.
template <class SA, class SB, class E, class F>
void with_tile(Isa isa, [[maybe_unused]] Operands operands, F&& run) {
#if LOWRANK_X86_KERNELS
    if constexpr (std::is_same_v<E, float>) {
        if constexpr (std::is_same_v<SA, bf16> && std::is_same_v<SB, bf16>) {
            using Pair = avx512_bf16::Bf16Pair;
            if (isa >= Isa::avx512_bf16) return run(gemm_dot_tile(), kElementsPerStep<bf16, Pair>, AsValues<Pair>{});
        }
        if (operands == Operands::rounded && has_fixed_tile(isa)) {
            return run(gemm_fixed_tile(isa), kElementsPerStep<SA, avx2::Fixed::Packed>, AsFixed{});
        }
    }
#endif
    run(gemm_tile_for<E>(isa), 1, AsValues<E>{});
}

template <class SA, class SB, class E>
void product(const Context& context, Part part, Operands operands, E alpha, MatrixView<const SA> a,
             Transpose transpose_a, MatrixView<const SB> b, Transpose transpose_b, E beta, MatrixView<E> c) {
    const bool a_flipped = transpose_a == Transpose::yes;
    const bool b_flipped = transpose_b == Transpose::yes;
    const std::int64_t depth = a_flipped ? a.rows() : a.cols();
    if (c.empty()) return;
    if (depth == 0 || alpha == E{0}) return scale(part, beta, c);
    const PackSource<SA> rows{a.data(), a.leading_dimension(), a_flipped, c.rows(), depth};
    const PackSource<SB> columns{b.data(), b.leading_dimension(), !b_flipped, c.cols(), depth};
    with_tile<SA, SB, E>(context.isa(), operands,
                         [&]<class P, class As>(const GemmTile<E, P>& tile, int elements, As as) {
                             GemmRun<P, E>(context, tile, elements, part, alpha, PackedFrom<P>(rows, as),
                                           PackedFrom<P>(columns, as), beta, c.data(), c.leading_dimension());
                         });
}

/// Copies what lies above the diagonal of C below it.
template <class E>
void mirror_upper(const Context& context, MatrixView<E> c) {
    constexpr std::int64_t kBlock = 64;  // a column of the source's block stays in the first-level cache
    const std::int64_t blocks = ceil_div(c.rows(), kBlock);
    context.parallel_for(blocks, [&](std::int64_t block) {
        const std::int64_t end = std::min((block + 1) * kBlock, c.rows());
        for (std::int64_t j0 = 0; j0 < end; j0 += kBlock) {
            for (std::int64_t i = block * kBlock; i < end; ++i) {
                for (std::int64_t j = j0; j < std::min(j0 + kBlock, i); ++j) c(i, j) = c(j, i);
            }
        }
    });
}

}  // namespace detail

/// C = alpha op(A) op(B) + beta C; with beta = 0 C is only written. C must not overlap A or B.
/// A, B: anything const_view takes. Throws ShapeError where the sizes do not fit together.
template <class MA, class MB, ComputeScalar E>
requires MatrixIn<MA, HostSpace> && MatrixIn<MB, HostSpace> && OperandOf<element_t<MA>, E> &&
    OperandOf<element_t<MB>, E>
void gemm(const Context& context, std::type_identity_t<E> alpha, const MA& a_in, Transpose transpose_a, const MB& b_in,
          Transpose transpose_b, std::type_identity_t<E> beta, MatrixView<E> c, Operands operands = Operands::exact) {
    const MatrixView<const element_t<MA>> a = const_view(a_in);
    const MatrixView<const element_t<MB>> b = const_view(b_in);
    const bool a_flipped = transpose_a == Transpose::yes;
    const bool b_flipped = transpose_b == Transpose::yes;
    if ((a_flipped ? a.cols() : a.rows()) != c.rows() || (b_flipped ? b.rows() : b.cols()) != c.cols() ||
        (a_flipped ? a.rows() : a.cols()) != (b_flipped ? b.cols() : b.rows())) {
        throw ShapeError("a product of " + detail::operand_string(a, transpose_a) + " and " +
                         detail::operand_string(b, transpose_b) + " does not fit a result of " +
                         shape_string(c.rows(), c.cols()));
    }
    detail::product(context, detail::Part::all, operands, alpha, a, transpose_a, b, transpose_b, beta, c);
}

/// The symmetric product C = alpha op(A) op(A)^T + beta C: `Transpose::yes` gives A^T A, `no` A A^T. Half the
/// operations of gemm; of C only the part on and above the diagonal is read (with beta != 0), all is written, exactly
/// symmetric. Throws ShapeError unless C is square and of op(A)'s rows.
template <class MA, ComputeScalar E>
requires MatrixIn<MA, HostSpace> && OperandOf<element_t<MA>, E>
void gram(const Context& context, std::type_identity_t<E> alpha, const MA& a_in, Transpose transpose,
          std::type_identity_t<E> beta, MatrixView<E> c, Operands operands = Operands::exact) {
    const MatrixView<const element_t<MA>> a = const_view(a_in);
    const bool flipped = transpose == Transpose::yes;
    const std::int64_t order = flipped ? a.cols() : a.rows();
    if (c.rows() != order || c.cols() != order) {
        throw ShapeError("the Gram matrix of " + detail::operand_string(a, transpose) + " does not fit a result of " +
                         shape_string(c.rows(), c.cols()));
    }
    detail::product(context, detail::Part::upper, operands, alpha, a, transpose, a,
                    flipped ? Transpose::no : Transpose::yes, beta, c);
    detail::mirror_upper(context, c);
}

}  // namespace lowrank::cpu

#include <lowrank/cpu/compiled/products.hpp>  // below what it announces
