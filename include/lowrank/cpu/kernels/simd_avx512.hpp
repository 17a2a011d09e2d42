// lowrank - the vector arithmetic of the AVX-512 levels.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/target.hpp>
#include <lowrank/scalar.hpp>

#if LOWRANK_X86_KERNELS

#include <cstdint>

namespace lowrank::cpu::detail::avx512 {

// GCC 12 warns that its own unmasked intrinsics read an undefined vector (GCC bug 105593). With all lanes on it emits
// the unmasked instruction.
inline constexpr __mmask16 kAllLanes = 0xffff;

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
    LOWRANK_INLINE_AVX512 static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
    LOWRANK_INLINE_AVX512 static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

    LOWRANK_INLINE_AVX512 static Operand load_packed(const float* from) { return load(from); }
    LOWRANK_INLINE_AVX512 static Operand broadcast_packed(const float* from) { return _mm512_set1_ps(*from); }
    /// In c's register: see avx2::Float.
    LOWRANK_INLINE_AVX512 static Vector multiply_add(Operand a, Operand b, Vector c) {
        asm("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
        return c;
    }

    using Stored = float;
    static constexpr int kDepth = 1;
    LOWRANK_INLINE_AVX512 static Operand load_stored(const float* from, int /*d*/) { return load(from); }

    LOWRANK_INLINE_AVX512 static void store_as(float* to, Vector v) { store(to, v); }
    LOWRANK_INLINE_AVX512 static void store_as(f16* to, Vector v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                            _mm512_maskz_cvtps_ph(kAllLanes, v, _MM_FROUND_TO_NEAREST_INT));
    }
    LOWRANK_INLINE_AVX512 static void store_as(bf16* to, Vector v) {
        const __m512i bits = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_maskz_srli_epi32(kAllLanes, bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        const __mmask16 nan = _mm512_cmpgt_epi32_mask(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)),
                                                      _mm512_set1_epi32(0x7f800000));
        const __m512i result = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                            _mm512_maskz_cvtepi32_epi16(kAllLanes, _mm512_maskz_srli_epi32(kAllLanes, result, 16)));
    }
};

/// Weights in pairs of bf16 of the inner dimension, widened.
struct Bf16 : Float {
    using Stored = bf16;
    static constexpr int kDepth = 2;
    LOWRANK_INLINE_AVX512 static Operand load_stored(const bf16* from, int d) {
        const __m512i pairs = _mm512_loadu_si512(from);
        return _mm512_castsi512_ps(d == 0 ? _mm512_maskz_slli_epi32(kAllLanes, pairs, 16)
                                          : _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
    }
};

struct F16 : Float {
    using Stored = f16;
    LOWRANK_INLINE_AVX512 static Operand load_stored(const f16* from, int /*d*/) {
        return _mm512_maskz_cvtph_ps(kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
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
    LOWRANK_INLINE_AVX512 static Vector add(Vector a, Vector b) { return _mm512_add_pd(a, b); }
    LOWRANK_INLINE_AVX512 static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_pd(a, b, c); }

    LOWRANK_INLINE_AVX512 static Operand load_packed(const double* from) { return load(from); }
    LOWRANK_INLINE_AVX512 static Operand broadcast_packed(const double* from) { return _mm512_set1_pd(*from); }
    LOWRANK_INLINE_AVX512 static Vector multiply_add(Operand a, Operand b, Vector c) { return fma(a, b, c); }

    using Stored = double;
    static constexpr int kDepth = 1;
    LOWRANK_INLINE_AVX512 static Operand load_stored(const double* from, int /*d*/) { return load(from); }
    LOWRANK_INLINE_AVX512 static void store_as(double* to, Vector v) { store(to, v); }
};

}  // namespace lowrank::cpu::detail::avx512

namespace lowrank::cpu::detail::avx512_vnni {

/// As avx2::Fixed, in one instruction for each step.
struct Fixed {
    using Element = float;
    using Packed = std::uint32_t;
    using Vector = __m512i;
    using Operand = __m512i;
    using Result = __m512;
    static constexpr int kWidth = 16;

    LOWRANK_INLINE_AVX512_VNNI static Vector zero() { return _mm512_setzero_si512(); }
    LOWRANK_INLINE_AVX512_VNNI static Operand load_packed(const Packed* from) { return _mm512_loadu_si512(from); }
    LOWRANK_INLINE_AVX512_VNNI static Operand broadcast_packed(const Packed* from) {
        return _mm512_set1_epi32(static_cast<int>(*from));
    }
    /// In c's register: see avx2::Float.
    LOWRANK_INLINE_AVX512_VNNI static Vector multiply_add(Operand a, Operand b, Vector c) {
        asm("vpdpwssd {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
        return c;
    }

    LOWRANK_INLINE_AVX512_VNNI static Result row_scale(float alpha, const Packed* unit) {
        return _mm512_mul_ps(_mm512_set1_ps(alpha), _mm512_castsi512_ps(broadcast_packed(unit)));
    }
    LOWRANK_INLINE_AVX512_VNNI static Result result(Vector sum, Result row_scale, const Packed* column_units) {
        const Result units = _mm512_castsi512_ps(load_packed(column_units));
        return _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_cvtepi32_ps(avx512::kAllLanes, sum), row_scale), units);
    }
    LOWRANK_INLINE_AVX512_VNNI static Result broadcast(float value) { return avx512::Float::broadcast(value); }
    LOWRANK_INLINE_AVX512_VNNI static Result load(const float* from) { return avx512::Float::load(from); }
    LOWRANK_INLINE_AVX512_VNNI static void store(float* to, Result v) { avx512::Float::store(to, v); }
    LOWRANK_INLINE_AVX512_VNNI static Result fma(Result a, Result b, Result c) { return avx512::Float::fma(a, b, c); }
};

}  // namespace lowrank::cpu::detail::avx512_vnni

namespace lowrank::cpu::detail::avx512_bf16 {

/// Rounds to bf16 by the instruction, which takes subnormals as zero: where there are any, as the level below does.
struct Float : avx512::Float {
    using avx512::Float::store_as;
    LOWRANK_INLINE_AVX512_BF16 static void store_as(bf16* to, Vector v) {
        constexpr int kSubnormal = 0x20;
        if (_mm512_fpclass_ps_mask(v, kSubnormal) != 0) return avx512::Float::store_as(to, v);
        const __m256bh rounded = _mm512_cvtneps_pbh(v);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<const __m256i&>(rounded));
    }
};

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
    LOWRANK_INLINE_AVX512_BF16 static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
    LOWRANK_INLINE_AVX512_BF16 static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

    LOWRANK_INLINE_AVX512_BF16 static Operand load_packed(const Bf16Pair* from) { return _mm512_loadu_si512(from); }
    LOWRANK_INLINE_AVX512_BF16 static Operand broadcast_packed(const Bf16Pair* from) {
        return _mm512_set1_epi32(static_cast<int>(*from));
    }
    LOWRANK_INLINE_AVX512_BF16 static Vector multiply_add(Operand a, Operand b, Vector c) {
        return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }

    using Stored = bf16;
    static constexpr int kDepth = 1;
    LOWRANK_INLINE_AVX512_BF16 static Operand load_stored(const bf16* from, int /*d*/) {
        return _mm512_loadu_si512(from);
    }
    LOWRANK_INLINE_AVX512_BF16 static void store_as(bf16* to, Vector v) { Float::store_as(to, v); }
};

}  // namespace lowrank::cpu::detail::avx512_bf16

#endif
