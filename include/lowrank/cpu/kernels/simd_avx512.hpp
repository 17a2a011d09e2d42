// lowrank - the vector arithmetic of the AVX-512 levels.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/target.hpp>

#if LOWRANK_X86_KERNELS

#include <cstdint>

namespace lowrank::cpu::detail::avx512 {

struct Float {
    using Element = float;  ///< what it accumulates in
    using Packed = float;   ///< what one step of the inner dimension takes from a packed operand
    using Vector = __m512;
    using Operand = __m512;
    static constexpr int kWidth = 16;

    LOWRANK_INLINE_AVX512 static Vector zero() { return _mm512_setzero_ps(); }
    LOWRANK_INLINE_AVX512 static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    LOWRANK_INLINE_AVX512 static void store(float* to, Vector v) { _mm512_storeu_ps(to, v); }
    LOWRANK_INLINE_AVX512 static Vector broadcast(float value) { return _mm512_set1_ps(value); }
    LOWRANK_INLINE_AVX512 static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
    LOWRANK_INLINE_AVX512 static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

    LOWRANK_INLINE_AVX512 static Operand load_packed(const float* from) { return load(from); }
    LOWRANK_INLINE_AVX512 static Operand broadcast_packed(const float* from) { return _mm512_set1_ps(*from); }
    LOWRANK_INLINE_AVX512 static Vector multiply_add(Operand a, Operand b, Vector c) { return fma(a, b, c); }
};

struct Double {
    using Element = double;
    using Packed = double;
    using Vector = __m512d;
    using Operand = __m512d;
    static constexpr int kWidth = 8;

    LOWRANK_INLINE_AVX512 static Vector zero() { return _mm512_setzero_pd(); }
    LOWRANK_INLINE_AVX512 static Vector load(const double* from) { return _mm512_loadu_pd(from); }
    LOWRANK_INLINE_AVX512 static void store(double* to, Vector v) { _mm512_storeu_pd(to, v); }
    LOWRANK_INLINE_AVX512 static Vector broadcast(double value) { return _mm512_set1_pd(value); }
    LOWRANK_INLINE_AVX512 static Vector mul(Vector a, Vector b) { return _mm512_mul_pd(a, b); }
    LOWRANK_INLINE_AVX512 static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_pd(a, b, c); }

    LOWRANK_INLINE_AVX512 static Operand load_packed(const double* from) { return load(from); }
    LOWRANK_INLINE_AVX512 static Operand broadcast_packed(const double* from) { return _mm512_set1_pd(*from); }
    LOWRANK_INLINE_AVX512 static Vector multiply_add(Operand a, Operand b, Vector c) { return fma(a, b, c); }
};

}  // namespace lowrank::cpu::detail::avx512

namespace lowrank::cpu::detail::avx512_bf16 {

/// Two consecutive bf16 of the inner dimension, the first in the lower half.
using Bf16Pair = std::uint32_t;

/// Accumulates in float the products of pairs of bf16. The instruction takes subnormal inputs as zero and flushes
/// subnormal results.
struct Dot {
    using Element = float;
    using Packed = Bf16Pair;
    using Vector = __m512;
    using Operand = __m512i;
    static constexpr int kWidth = 16;

    LOWRANK_INLINE_AVX512_BF16 static Vector zero() { return _mm512_setzero_ps(); }
    LOWRANK_INLINE_AVX512_BF16 static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    LOWRANK_INLINE_AVX512_BF16 static void store(float* to, Vector v) { _mm512_storeu_ps(to, v); }
    LOWRANK_INLINE_AVX512_BF16 static Vector broadcast(float value) { return _mm512_set1_ps(value); }
    LOWRANK_INLINE_AVX512_BF16 static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
    LOWRANK_INLINE_AVX512_BF16 static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

    LOWRANK_INLINE_AVX512_BF16 static Operand load_packed(const Bf16Pair* from) { return _mm512_loadu_si512(from); }
    LOWRANK_INLINE_AVX512_BF16 static Operand broadcast_packed(const Bf16Pair* from) {
        return _mm512_set1_epi32(static_cast<int>(*from));
    }
    LOWRANK_INLINE_AVX512_BF16 static Vector multiply_add(Operand a, Operand b, Vector c) {
        return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
};

}  // namespace lowrank::cpu::detail::avx512_bf16

#endif
