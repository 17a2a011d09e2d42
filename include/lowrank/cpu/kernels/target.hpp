// lowrank - how a function is compiled for an instruction-set level that the translation unit is not compiled for.
// SPDX-License-Identifier: MIT
//
// Every function that touches a vector register of a level carries that level's `target` attribute: a kernel with
// LOWRANK_TARGET_<LEVEL>, a helper that must vanish into it with LOWRANK_INLINE_<LEVEL>. Neither GCC nor Clang gives a
// lambda the attributes of the function around it, so there are none in kernels; and neither inlines a helper whose
// target is not a subset of its caller's, so each level has its own.
#pragma once

#include <lowrank/cpu/isa.hpp>

#if LOWRANK_X86_KERNELS
#include <immintrin.h>
#define LOWRANK_TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define LOWRANK_TARGET_AVX512 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")))
#define LOWRANK_TARGET_AVX512_VNNI \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define LOWRANK_TARGET_AVX512_BF16 \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")))
#define LOWRANK_INLINE_AVX2 LOWRANK_TARGET_AVX2 __attribute__((always_inline)) inline
#define LOWRANK_INLINE_AVX512 LOWRANK_TARGET_AVX512 __attribute__((always_inline)) inline
#define LOWRANK_INLINE_AVX512_VNNI LOWRANK_TARGET_AVX512_VNNI __attribute__((always_inline)) inline
#define LOWRANK_INLINE_AVX512_BF16 LOWRANK_TARGET_AVX512_BF16 __attribute__((always_inline)) inline
#endif

#define LOWRANK_TARGET_PORTABLE
#if defined(__GNUC__)
#define LOWRANK_INLINE_PORTABLE __attribute__((always_inline)) inline
#else
#define LOWRANK_INLINE_PORTABLE inline
#endif

// Loops over the registers of a kernel must be unrolled for the registers to be registers, at -O2 too.
#if defined(__clang__)
#define LOWRANK_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define LOWRANK_UNROLL _Pragma("GCC unroll 32")
#else
#define LOWRANK_UNROLL
#endif

// The value of a variable is one that the compiler cannot foresee: it does not replace three pointers by fourteen.
#if defined(__GNUC__)
#define LOWRANK_KEEP_IN_REGISTER(x) asm("" : "+r"(x))
#else
#define LOWRANK_KEEP_IN_REGISTER(x) static_cast<void>(x)
#endif

namespace lowrank::cpu::detail {

/// Tells the processor that this thread waits in a loop.
inline void pause() {
#if LOWRANK_X86_KERNELS
    _mm_pause();
#endif
}

/// Asks for a cache line, of any address.
LOWRANK_INLINE_PORTABLE void prefetch([[maybe_unused]] const void* line) {
#if defined(__GNUC__)
    __builtin_prefetch(line, 0, 3);
#endif
}

/// The same for one that will be written.
LOWRANK_INLINE_PORTABLE void prefetch_to_write([[maybe_unused]] void* line) {
#if defined(__GNUC__)
    __builtin_prefetch(line, 1, 3);
#endif
}

}  // namespace lowrank::cpu::detail
