// lowrank - the vector arithmetic of the AVX2 level (with FMA and F16C).
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/target.hpp>

#if LOWRANK_X86_KERNELS

namespace lowrank::cpu::detail::avx2 {

struct Float {
    using Element = float;  ///< what it accumulates in
    using Packed = float;   ///< what one step of the inner dimension takes from a packed operand
    using Vector = __m256;
    using Operand = __m256;
    static constexpr int kWidth = 8;

    LOWRANK_INLINE_AVX2 static Vector zero() { return _mm256_setzero_ps(); }
    LOWRANK_INLINE_AVX2 static Vector load(const float* from) { return _mm256_loadu_ps(from); }
    LOWRANK_INLINE_AVX2 static void store(float* to, Vector v) { _mm256_storeu_ps(to, v); }
    LOWRANK_INLINE_AVX2 static Vector broadcast(float value) { return _mm256_set1_ps(value); }
    LOWRANK_INLINE_AVX2 static Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
    LOWRANK_INLINE_AVX2 static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

    LOWRANK_INLINE_AVX2 static Operand load_packed(const float* from) { return load(from); }
    LOWRANK_INLINE_AVX2 static Operand broadcast_packed(const float* from) { return _mm256_broadcast_ss(from); }
    LOWRANK_INLINE_AVX2 static Vector multiply_add(Operand a, Operand b, Vector c) { return fma(a, b, c); }
};

struct Double {
    using Element = double;
    using Packed = double;
    using Vector = __m256d;
    using Operand = __m256d;
    static constexpr int kWidth = 4;

    LOWRANK_INLINE_AVX2 static Vector zero() { return _mm256_setzero_pd(); }
    LOWRANK_INLINE_AVX2 static Vector load(const double* from) { return _mm256_loadu_pd(from); }
    LOWRANK_INLINE_AVX2 static void store(double* to, Vector v) { _mm256_storeu_pd(to, v); }
    LOWRANK_INLINE_AVX2 static Vector broadcast(double value) { return _mm256_set1_pd(value); }
    LOWRANK_INLINE_AVX2 static Vector mul(Vector a, Vector b) { return _mm256_mul_pd(a, b); }
    LOWRANK_INLINE_AVX2 static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_pd(a, b, c); }

    LOWRANK_INLINE_AVX2 static Operand load_packed(const double* from) { return load(from); }
    LOWRANK_INLINE_AVX2 static Operand broadcast_packed(const double* from) { return _mm256_broadcast_sd(from); }
    LOWRANK_INLINE_AVX2 static Vector multiply_add(Operand a, Operand b, Vector c) { return fma(a, b, c); }
};

}  // namespace lowrank::cpu::detail::avx2

#endif
