// lowrank - the vector arithmetic of the portable level: 16 bytes, whatever the processor calls them.
// SPDX-License-Identifier: MIT
//
// GCC and Clang turn their vector extension into SSE2, NEON or what else the translation unit is compiled for; any
// other compiler has arrays and its own vectoriser.
#pragma once

#include <lowrank/cpu/kernels/target.hpp>
#include <lowrank/scalar.hpp>

#include <cstring>

namespace lowrank::cpu::detail::portable {

/// kWidth numbers of type T, on which the kernels of this level compute.
template <class T>
struct Lanes {
    using Element = T;  ///< what it accumulates in
    using Packed = T;   ///< what one step of the inner dimension takes from a packed operand
    static constexpr int kWidth = static_cast<int>(16 / sizeof(T));
#if defined(__GNUC__)
    typedef T Vector __attribute__((vector_size(16)));  // NOLINT(modernize-use-using): known to work in GCC and Clang
#else
    struct Vector {
        T lane[kWidth];
        friend Vector operator+(Vector a, const Vector& b) {
            for (int i = 0; i < kWidth; ++i) a.lane[i] += b.lane[i];
            return a;
        }
        friend Vector operator*(Vector a, const Vector& b) {
            for (int i = 0; i < kWidth; ++i) a.lane[i] *= b.lane[i];
            return a;
        }
    };
#endif

    LOWRANK_INLINE_PORTABLE static Vector zero() {
        return Vector{};
    }
    LOWRANK_INLINE_PORTABLE static Vector load(const T* from) {
        Vector v;
        std::memcpy(&v, from, sizeof v);
        return v;
    }
    LOWRANK_INLINE_PORTABLE static void store(T* to, Vector v) {
        std::memcpy(to, &v, sizeof v);
    }
    LOWRANK_INLINE_PORTABLE static Vector broadcast(T value) {
        T lanes[kWidth];
        for (int i = 0; i < kWidth; ++i) lanes[i] = value;
        return load(lanes);
    }
    LOWRANK_INLINE_PORTABLE static Vector mul(Vector a, Vector b) {
        return a * b;
    }
    LOWRANK_INLINE_PORTABLE static Vector add(Vector a, Vector b) {
        return a + b;
    }
    LOWRANK_INLINE_PORTABLE static Vector fma(Vector a, Vector b, Vector c) {
        return a * b + c;
    }

    using Operand = Vector;
    LOWRANK_INLINE_PORTABLE static Operand load_packed(const T* from) {
        return load(from);
    }
    LOWRANK_INLINE_PORTABLE static Operand broadcast_packed(const T* from) {
        return broadcast(*from);
    }
    LOWRANK_INLINE_PORTABLE static Vector multiply_add(Operand a, Operand b, Vector c) {
        return fma(a, b, c);
    }

    using Stored = T;
    static constexpr int kDepth = 1;
    LOWRANK_INLINE_PORTABLE static Operand load_stored(const T* from, int /*d*/) {
        return load(from);
    }
    template <class Out>
    LOWRANK_INLINE_PORTABLE static void store_as(Out* to, Vector v) {
        T lanes[kWidth];
        store(lanes, v);
        for (int i = 0; i < kWidth; ++i) to[i] = static_cast<Out>(lanes[i]);
    }
};

using Float = Lanes<float>;
using Double = Lanes<double>;

/// Weights of 16 bits, widened; bf16 in pairs of the inner dimension.
template <class S, int kPairs>
struct Widened : Float {
    using Stored = S;
    static constexpr int kDepth = kPairs;
    LOWRANK_INLINE_PORTABLE static Operand load_stored(const S* from, int d) {
        float lanes[kWidth];
        for (int i = 0; i < kWidth; ++i) lanes[i] = static_cast<float>(from[i * kDepth + d]);
        return load(lanes);
    }
};

using Bf16 = Widened<bf16, 2>;
using F16 = Widened<f16, 1>;

}  // namespace lowrank::cpu::detail::portable
