// lowrank - the vector arithmetic of the AVX2 level (with FMA and F16C).
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/target.hpp>
#include <lowrank/scalar.hpp>

#if LOWRANK_X86_KERNELS

#include <cstdint>

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
    LOWRANK_INLINE_AVX2 static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
    LOWRANK_INLINE_AVX2 static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

    LOWRANK_INLINE_AVX2 static Operand load_packed(const float* from) { return load(from); }
    LOWRANK_INLINE_AVX2 static Operand broadcast_packed(const float* from) { return _mm256_set1_ps(*from); }
    /// fma(a, b, c) in c's register. Of the intrinsic GCC 12 may put the sum into a's and move it back, and where the
    /// sums fill the registers, as with weights in pairs of bf16, spill them: that took 30 % of such a product's time.
    LOWRANK_INLINE_AVX2 static Vector multiply_add(Operand a, Operand b, Vector c) {
        asm("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+x"(c) : "x"(a), "x"(b));
        return c;
    }

    // The forward path's: how weights are stored, how many elements of the inner dimension a step holds (d says which
    // of them), and results stored in any type, as scalar.hpp rounds them.
    using Stored = float;
    static constexpr int kDepth = 1;
    LOWRANK_INLINE_AVX2 static Operand load_stored(const float* from, int /*d*/) { return load(from); }

    LOWRANK_INLINE_AVX2 static void store_as(float* to, Vector v) { store(to, v); }
    LOWRANK_INLINE_AVX2 static void store_as(f16* to, Vector v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    LOWRANK_INLINE_AVX2 static void store_as(bf16* to, Vector v) {
        const __m256i bits = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256i nan =
            _mm256_cmpgt_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)), _mm256_set1_epi32(0x7f800000));
        const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        const __m256i result = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                         _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)));
    }
};

/// Weights in pairs of bf16 of the inner dimension, widened.
struct Bf16 : Float {
    using Stored = bf16;
    static constexpr int kDepth = 2;
    LOWRANK_INLINE_AVX2 static Operand load_stored(const bf16* from, int d) {
        const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        return _mm256_castsi256_ps(d == 0 ? _mm256_slli_epi32(pairs, 16)
                                          : _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000U))));
    }
};

struct F16 : Float {
    using Stored = f16;
    LOWRANK_INLINE_AVX2 static Operand load_stored(const f16* from, int /*d*/) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
};

/// Pairs of 16-bit integers in the units of their lanes, accumulated in 32 bits: see pack_fixed.hpp.
struct Fixed {
    using Element = float;
    using Packed = std::uint32_t;
    using Vector = __m256i;
    using Operand = __m256i;
    using Result = __m256;
    static constexpr int kWidth = 8;

    LOWRANK_INLINE_AVX2 static Vector zero() { return _mm256_setzero_si256(); }
    LOWRANK_INLINE_AVX2 static Operand load_packed(const Packed* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    LOWRANK_INLINE_AVX2 static Operand broadcast_packed(const Packed* from) {
        return _mm256_set1_epi32(static_cast<int>(*from));
    }
    /// In c's register, for the reason that Float::multiply_add gives.
    LOWRANK_INLINE_AVX2 static Vector multiply_add(Operand a, Operand b, Vector c) {
        asm("vpaddd {%1, %0, %0|%0, %0, %1}" : "+x"(c) : "x"(_mm256_madd_epi16(a, b)));
        return c;
    }

    LOWRANK_INLINE_AVX2 static Result row_scale(float alpha, const Packed* unit) {
        return _mm256_mul_ps(_mm256_set1_ps(alpha), _mm256_castsi256_ps(broadcast_packed(unit)));
    }
    LOWRANK_INLINE_AVX2 static Result result(Vector sum, Result row_scale, const Packed* column_units) {
        const Result units = _mm256_castsi256_ps(load_packed(column_units));
        return _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), row_scale), units);
    }
    LOWRANK_INLINE_AVX2 static Result broadcast(float value) { return Float::broadcast(value); }
    LOWRANK_INLINE_AVX2 static Result load(const float* from) { return Float::load(from); }
    LOWRANK_INLINE_AVX2 static void store(float* to, Result v) { Float::store(to, v); }
    LOWRANK_INLINE_AVX2 static Result fma(Result a, Result b, Result c) { return Float::fma(a, b, c); }
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
    LOWRANK_INLINE_AVX2 static Vector add(Vector a, Vector b) { return _mm256_add_pd(a, b); }
    LOWRANK_INLINE_AVX2 static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_pd(a, b, c); }

    LOWRANK_INLINE_AVX2 static Operand load_packed(const double* from) { return load(from); }
    LOWRANK_INLINE_AVX2 static Operand broadcast_packed(const double* from) { return _mm256_set1_pd(*from); }
    LOWRANK_INLINE_AVX2 static Vector multiply_add(Operand a, Operand b, Vector c) { return fma(a, b, c); }

    using Stored = double;
    static constexpr int kDepth = 1;
    LOWRANK_INLINE_AVX2 static Operand load_stored(const double* from, int /*d*/) { return load(from); }
    LOWRANK_INLINE_AVX2 static void store_as(double* to, Vector v) { store(to, v); }
};

}  // namespace lowrank::cpu::detail::avx2

#endif
