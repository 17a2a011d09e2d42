// lowrank - the instruction-set levels of the CPU kernels, and which of them this machine has.
// SPDX-License-Identifier: MIT
//
// The kernels are compiled for several levels in every translation unit (function `target` attributes), whatever
// -march the host is built with, and one level is chosen at run time. Compilers without such attributes, and
// processors other than x86-64, have the portable level alone.
#pragma once

#include <cstdint>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#define LOWRANK_X86_KERNELS 1
#else
#define LOWRANK_X86_KERNELS 0
#endif

namespace lowrank::cpu {

/// Each level includes those before it.
enum class Isa : std::uint8_t {
    portable,     ///< what the translation unit is compiled for, in vectors of 16 bytes
    avx2,         ///< AVX2, FMA, F16C
    avx512,       ///< AVX-512 F, BW, DQ, VL
    avx512_vnni,  ///< and the dot product of 16-bit integers
    avx512_bf16,  ///< and that of bf16
};

/// Ascending.
inline constexpr Isa kEveryIsa[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_vnni, Isa::avx512_bf16};

constexpr const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::avx512_bf16: return "avx512_bf16";
        case Isa::avx512_vnni: return "avx512_vnni";
        case Isa::avx512: return "avx512";
        case Isa::avx2: return "avx2";
        case Isa::portable: break;
    }
    return "portable";
}

/// The highest level that this processor and its operating system support.
inline Isa detect_isa() {
#if LOWRANK_X86_KERNELS
    __builtin_cpu_init();
    unsigned a = 0, b = 0, c = 0, d = 0;  // Clang 14's __builtin_cpu_supports does not know F16C
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    const bool avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    if (vnni && __builtin_cpu_supports("avx512bf16")) return Isa::avx512_bf16;
    if (vnni) return Isa::avx512_vnni;
    if (avx512) return Isa::avx512;
    if (avx2) return Isa::avx2;
#endif
    return Isa::portable;
}

}  // namespace lowrank::cpu
