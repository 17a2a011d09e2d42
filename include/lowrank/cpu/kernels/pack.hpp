// lowrank - packing of an operand of the general product into panels, widening it on the way.
// SPDX-License-Identifier: MIT
//
// A panel holds `width` rows of op(A), or columns of op(B): for each step of the inner dimension the `width` values
// side by side. A step is one element, or two bf16 of which the last is zero where the inner dimension is odd.
// pack_fixed.hpp packs two integers of 16 bits per step by the same loops.
// Lanes beyond the matrix hold finite copies of others or zero: what is computed from them is not stored.
#pragma once

#include <lowrank/cpu/kernels/simd_avx512.hpp>
#include <lowrank/cpu/kernels/target.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace lowrank::cpu::detail {

/// How many elements past its panel a packer may write. The next panel's packing overwrites them.
inline constexpr int kPackSlack = 8;

// How far ahead of its use a lane is fetched: the prefetchers of some processors follow fewer lanes than a panel has.
// Measured on Zen 5, when 512 rows of X were packed so: 2 % of a forward.
inline constexpr std::int64_t kPackAheadBytes = 512;

/// Part of an operand, seen as lanes (rows of op(A), columns of op(B)) and steps of the inner dimension.
template <class S>
struct PackSource {
    const S* data;
    std::int64_t stride;    ///< the leading dimension
    bool lanes_contiguous;  ///< else the steps are
    std::int64_t lanes;     ///< up to the edge of the matrix, may exceed a panel's
    std::int64_t depth;

    [[nodiscard]] S at(std::int64_t lane, std::int64_t k) const {
        return lanes_contiguous ? data[k * stride + lane] : data[lane * stride + k];
    }
    [[nodiscard]] PackSource from(std::int64_t lane, std::int64_t k) const {
        PackSource part = *this;
        part.data += lanes_contiguous ? k * stride + lane : lane * stride + k;
        part.lanes -= lane;
        part.depth -= k;
        return part;
    }
};

/// Elements of the inner dimension that one packed step takes.
template <class S, class P>
inline constexpr int kElementsPerStep = std::is_same_v<P, std::uint32_t> ? 2 : 1;

template <class S, class P>
P packed_value(const PackSource<S>& source, std::int64_t lane, std::int64_t step) {
    if constexpr (kElementsPerStep<S, P> == 2) {
        const std::uint32_t low = source.at(lane, 2 * step).bits;
        const std::uint32_t high = 2 * step + 1 < source.depth ? source.at(lane, 2 * step + 1).bits : 0U;
        return low | high << 16;
    } else {
        return static_cast<P>(source.at(lane, step));
    }
}

namespace portable {

template <class S, class P>
void pack_panel(const PackSource<S>& source, P* to, int width) {
    const std::int64_t steps = (source.depth + kElementsPerStep<S, P> - 1) / kElementsPerStep<S, P>;
    for (std::int64_t k = 0; k < steps; ++k) {
        for (int i = 0; i < width; ++i, ++to) *to = i < source.lanes ? packed_value<S, P>(source, i, k) : P{};
    }
}

}  // namespace portable

#if LOWRANK_X86_KERNELS
namespace avx2 {

/// How lanes are packed: kCount packed values in a register, loaded and widened, a square of them transposed, and
/// single values at the edges. `lane` is the first one's place in the panel.
template <class P>
struct PackLanes;

template <>
struct PackLanes<float> {
    static constexpr int kCount = 8;
    using Vector = __m256;
    LOWRANK_INLINE_AVX2 static Vector load(const float* from, int /*lane*/ = 0) { return _mm256_loadu_ps(from); }
    LOWRANK_INLINE_AVX2 static Vector load(const bf16* from, int /*lane*/ = 0) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
    LOWRANK_INLINE_AVX2 static Vector load(const f16* from, int /*lane*/ = 0) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    template <class S>
    static float value(const PackSource<S>& source, std::int64_t lane, std::int64_t step) {
        return packed_value<S, float>(source, lane, step);
    }
    LOWRANK_INLINE_AVX2 static void store(float* to, Vector v) { _mm256_storeu_ps(to, v); }
    LOWRANK_INLINE_AVX2 static void store(std::uint32_t* to, Vector v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_castps_si256(v));
    }
    LOWRANK_INLINE_AVX2 static void transpose(Vector (&v)[8]) {
        Vector pairs[8];
        LOWRANK_UNROLL
        for (int i = 0; i < 8; i += 2) {
            pairs[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
        }
        Vector fours[8];
        LOWRANK_UNROLL
        for (int i = 0; i < 8; i += 4) {
            fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
            fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
            fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
            fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
        }
        LOWRANK_UNROLL
        for (int i = 0; i < 4; ++i) {
            v[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
            v[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
        }
    }
};

/// Pairs of bf16 move as floats do: their bits are never computed with.
template <>
struct PackLanes<std::uint32_t> : PackLanes<float> {
    LOWRANK_INLINE_AVX2 static Vector load(const bf16* from, int /*lane*/) {
        return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
    LOWRANK_INLINE_AVX2 static Vector interleave(const bf16* first, const bf16* second, int /*lane*/) {
        const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
        const __m128i b =
            second == nullptr ? _mm_setzero_si128() : _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
        return _mm256_castsi256_ps(_mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b)));
    }
    template <class S>
    static std::uint32_t value(const PackSource<S>& source, std::int64_t lane, std::int64_t step) {
        return packed_value<S, std::uint32_t>(source, lane, step);
    }
};

template <>
struct PackLanes<double> {
    static constexpr int kCount = 4;
    using Vector = __m256d;
    LOWRANK_INLINE_AVX2 static Vector load(const double* from, int /*lane*/) { return _mm256_loadu_pd(from); }
    LOWRANK_INLINE_AVX2 static Vector load(const float* from, int /*lane*/) {
        return _mm256_cvtps_pd(_mm_loadu_ps(from));
    }
    template <class S>
    static double value(const PackSource<S>& source, std::int64_t lane, std::int64_t step) {
        return packed_value<S, double>(source, lane, step);
    }
    LOWRANK_INLINE_AVX2 static void store(double* to, Vector v) { _mm256_storeu_pd(to, v); }
    LOWRANK_INLINE_AVX2 static void transpose(Vector (&v)[4]) {
        const Vector low01 = _mm256_unpacklo_pd(v[0], v[1]);
        const Vector high01 = _mm256_unpackhi_pd(v[0], v[1]);
        const Vector low23 = _mm256_unpacklo_pd(v[2], v[3]);
        const Vector high23 = _mm256_unpackhi_pd(v[2], v[3]);
        v[0] = _mm256_permute2f128_pd(low01, low23, 0x20);
        v[1] = _mm256_permute2f128_pd(high01, high23, 0x20);
        v[2] = _mm256_permute2f128_pd(low01, low23, 0x31);
        v[3] = _mm256_permute2f128_pd(high01, high23, 0x31);
    }
};

/// Lanes, from the panel's first, that are read in whole registers where lanes are contiguous.
template <int kCount>
int whole_vectors(std::int64_t lanes, int width) {
    return static_cast<int>(std::min<std::int64_t>(width + kCount - 1, lanes)) / kCount * kCount;
}

/// Steps contiguous: squares are transposed in registers. Within a block of steps the last lanes go first, since
/// what they write past the panel's width belongs to the first lanes of the next step.
template <class Lanes, class S, class P>
LOWRANK_TARGET_AVX2 void pack_transposed(const Lanes& lanes, const PackSource<S>& source, P* to, int width) {
    constexpr int kCount = Lanes::kCount;
    constexpr int kElements = kElementsPerStep<S, P>;
    const std::int64_t whole = source.depth / (kCount * kElements) * kCount;
    const std::int64_t steps = (source.depth + kElements - 1) / kElements;
    const int last_group = (width - 1) / kCount * kCount;
    for (std::int64_t k = 0; k < whole; k += kCount) {
        for (int group = last_group; group >= 0; group -= kCount) {
            typename Lanes::Vector v[kCount];
            LOWRANK_UNROLL
            for (int i = 0; i < kCount; ++i) {
                const std::int64_t lane = std::min<std::int64_t>(group + i, source.lanes - 1);
                const S* from = source.data + lane * source.stride + k * kElements;
                prefetch(reinterpret_cast<const std::byte*>(from) + kPackAheadBytes);
                v[i] = lanes.load(from, group + i);
            }
            Lanes::transpose(v);
            LOWRANK_UNROLL
            for (int i = 0; i < kCount; ++i) Lanes::store(to + (k + i) * width + group, v[i]);
        }
    }
    for (std::int64_t k = whole; k < steps; ++k) {
        for (int i = 0; i < width; ++i) to[k * width + i] = i < source.lanes ? lanes.value(source, i, k) : P{};
    }
}

/// Lanes contiguous: each step is a copy. What it writes past the width is overwritten by the next step.
template <class Lanes, class S, class P>
LOWRANK_TARGET_AVX2 void pack_straight(const Lanes& lanes, const PackSource<S>& source, P* to, int width) {
    constexpr int kCount = Lanes::kCount;
    constexpr int kElements = kElementsPerStep<S, P>;
    const std::int64_t steps = (source.depth + kElements - 1) / kElements;
    const int vectors = whole_vectors<kCount>(source.lanes, width);
    for (std::int64_t k = 0; k < steps; ++k, to += width) {
        const S* row = source.data + k * kElements * source.stride;
        for (int i = 0; i < vectors; i += kCount) {
            if constexpr (kElements == 2) {
                const S* second = 2 * k + 1 < source.depth ? row + source.stride + i : nullptr;
                Lanes::store(to + i, lanes.interleave(row + i, second, i));
            } else {
                Lanes::store(to + i, lanes.load(row + i, i));
            }
        }
        for (int i = vectors; i < width; ++i) to[i] = i < source.lanes ? lanes.value(source, i, k) : P{};
    }
}

template <class Lanes, class S, class P>
void pack_panel(const Lanes& lanes, const PackSource<S>& source, P* to, int width) {
    source.lanes_contiguous ? pack_straight(lanes, source, to, width) : pack_transposed(lanes, source, to, width);
}

}  // namespace avx2
#endif

/// Packs one panel of `width` lanes, the source's first ones.
template <class P, class S>
void pack_panel(Isa isa, const PackSource<S>& source, P* to, int width) {
#if LOWRANK_X86_KERNELS
    if (isa >= Isa::avx2) return avx2::pack_panel(avx2::PackLanes<P>{}, source, to, width);
#endif
    (void)isa;
    portable::pack_panel<S, P>(source, to, width);
}

}  // namespace lowrank::cpu::detail
