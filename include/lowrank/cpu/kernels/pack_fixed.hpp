// lowrank - packing of an operand of the general product as integers of 16 bits, each lane of a block in its own unit.
// SPDX-License-Identifier: MIT
//
// Where a processor multiplies pairs of 16-bit integers faster than floats, as those with AVX2 do, rounded products are
// computed in integers: a lane's part x of a block of the inner dimension becomes the integers nearest to x / unit,
// unit = ||x|| / kFixedNorm. Sums of products are exact then, and cannot overflow: no partial sum exceeds the product
// of both lanes' norms (Cauchy, Schwarz), about kFixedNorm^2 < 2^30. The error of x is at most unit / 2 in an entry,
// and in the mean square fixed_variance() of x's own mean square, whatever x is like: a fiftieth of bf16's.
#pragma once

#include <lowrank/cpu/kernels/pack.hpp>
#include <lowrank/cpu/kernels/target.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace lowrank::cpu::detail {

/// The norm of a lane of integers: an entry of that size is still one of 16 bits.
inline constexpr float kFixedNorm = 32700;

/// Mean square of the errors of a lane of `depth` elements in terms of its own mean square: unit^2 / 12 for each.
constexpr double fixed_variance(std::int64_t depth) {
    return static_cast<double>(depth) / (12.0 * kFixedNorm * kFixedNorm);
}

#if LOWRANK_X86_KERNELS
namespace avx2 {

/// The lanes of one panel, measured: pairs of integers, the first in the lower half.
class FixedLanes : public PackLanes<float> {
public:
    template <class S>
    LOWRANK_TARGET_AVX2 FixedLanes(const PackSource<S>& source, int width) {
        alignas(32) float squares[kMostLanes] = {};
        source.lanes_contiguous ? add_rows(source, width, squares) : add_lanes(source, width, squares);
        for (int i = 0; i < std::min<std::int64_t>(width, source.lanes); ++i) {
            const float norm = norm_of(source, i, squares[i]);
            // Of a smaller one the inverse would leave the range.
            inverse_[i] = norm >= kLeastNorm ? kFixedNorm / norm : 0.0F;
            unit_[i] = norm >= kLeastNorm || std::isnan(norm) ? norm / kFixedNorm : 0.0F;
        }
    }

    template <class S>
    LOWRANK_INLINE_AVX2 Vector load(const S* from, int lane) const {
        const __m256 inverse = _mm256_set1_ps(inverse_[lane]);
        const __m256i pairs = _mm256_packs_epi32(nearest(from, inverse), nearest(from + 8, inverse));
        return _mm256_castsi256_ps(_mm256_permute4x64_epi64(pairs, 0xd8));
    }
    template <class S>
    LOWRANK_INLINE_AVX2 Vector interleave(const S* first, const S* second, int lane) const {
        const __m256 inverse = _mm256_loadu_ps(inverse_ + lane);
        const __m256i low = nearest(first, inverse);
        const __m256i high = second == nullptr ? _mm256_setzero_si256() : nearest(second, inverse);
        return _mm256_castsi256_ps(_mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa));
    }
    template <class S>
    std::uint32_t value(const PackSource<S>& source, std::int64_t lane, std::int64_t step) const {
        const auto bits = [&](std::int64_t k) -> std::uint32_t {
            if (k >= source.depth) return 0;
            const float units = static_cast<float>(source.at(lane, k)) * inverse_[lane];
            // Comparisons that NaN fails: its lane's unit is NaN, too.
            if (!(units > -kFixedNorm - 1 && units < kFixedNorm + 1)) return 0;
            return static_cast<std::uint32_t>(std::lrint(units)) & 0xffffU;
        };
        return bits(2 * step) | bits(2 * step + 1) << 16;
    }

    /// The step behind a panel's last: the lanes' units.
    void write_units(std::uint32_t* to, int width) const {
        std::memcpy(to, unit_, static_cast<std::size_t>(width) * sizeof(float));
    }

private:
    static constexpr int kMostLanes = 16;
    static constexpr float kLeastNorm = 0x1p-100F;
    static constexpr int kRowsAhead = 16;  // 1 KiB in cache lines, one of each row

    template <class S>
    LOWRANK_INLINE_AVX2 static __m256i nearest(const S* from, __m256 inverse) {
        return _mm256_cvtps_epi32(_mm256_mul_ps(PackLanes<float>::load(from), inverse));
    }

    /// Where float cannot hold the sum of the squares, that in double.
    template <class S>
    static float norm_of(const PackSource<S>& source, std::int64_t lane, float squares) {
        constexpr float kLeast = 0x1p-100F;
        constexpr float kMost = 0x1p+120F;
        if (squares > kLeast && squares < kMost) return std::sqrt(squares);
        double sum = 0;
        for (std::int64_t k = 0; k < source.depth; ++k) {
            const auto x = static_cast<double>(source.at(lane, k));
            sum += x * x;
        }
        return static_cast<float>(std::sqrt(sum));
    }

    /// Steps contiguous.
    template <class S>
    LOWRANK_TARGET_AVX2 static void add_lanes(const PackSource<S>& source, int width, float* squares) {
        constexpr int kSums = 4;
        const int lanes = static_cast<int>(std::min<std::int64_t>(width, source.lanes));
        const std::int64_t whole = source.depth / (kCount * kSums) * (kCount * kSums);
        for (int i = 0; i < lanes; ++i) {
            const S* from = source.data + i * source.stride;
            __m256 sums[kSums];
            LOWRANK_UNROLL
            for (int s = 0; s < kSums; ++s) sums[s] = _mm256_setzero_ps();
            for (std::int64_t k = 0; k < whole; k += kCount * kSums) {
                prefetch(reinterpret_cast<const std::byte*>(from + k) + kPackAheadBytes);
                prefetch(from + source.stride + k);  // the next lane, which no prefetcher foresees
                LOWRANK_UNROLL
                for (int s = 0; s < kSums; ++s) {
                    const __m256 x = PackLanes<float>::load(from + k + s * kCount);
                    sums[s] = _mm256_fmadd_ps(x, x, sums[s]);
                }
            }
            alignas(32) float parts[kCount];
            _mm256_store_ps(parts, _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
            float sum = 0;
            for (const float part : parts) sum += part;
            for (std::int64_t k = whole; k < source.depth; ++k) {
                const auto x = static_cast<float>(source.at(i, k));
                sum += x * x;
            }
            squares[i] = sum;
        }
    }

    /// Lanes contiguous.
    template <class S>
    LOWRANK_TARGET_AVX2 static void add_rows(const PackSource<S>& source, int width, float* squares) {
        const int vectors = whole_vectors<kCount>(source.lanes, width);
        if (vectors == kMostLanes) {
            add_columns<kMostLanes / kCount>(source, squares);
        } else if (vectors > 0) {
            add_columns<1>(source, squares);
        }
        for (std::int64_t k = 0; k < source.depth; ++k) {
            for (int i = vectors; i < std::min<std::int64_t>(width, source.lanes); ++i) {
                const auto x = static_cast<float>(source.at(i, k));
                squares[i] += x * x;
            }
        }
    }
    /// Of the first lanes.
    template <int kVectors, class S>
    LOWRANK_TARGET_AVX2 static void add_columns(const PackSource<S>& source, float* squares) {
        constexpr int kSums = 4;  // of each: their latency
        __m256 sums[kSums][kVectors];
        LOWRANK_UNROLL
        for (int s = 0; s < kSums; ++s) {
            LOWRANK_UNROLL
            for (int v = 0; v < kVectors; ++v) sums[s][v] = _mm256_setzero_ps();
        }
        const S* row = source.data;
        std::int64_t k = 0;
        for (; k + kSums <= source.depth; k += kSums) {
            LOWRANK_UNROLL
            for (int s = 0; s < kSums; ++s, row += source.stride) {
                prefetch(row + kRowsAhead * source.stride);
                LOWRANK_UNROLL
                for (int v = 0; v < kVectors; ++v) {
                    const __m256 x = PackLanes<float>::load(row + v * kCount);
                    sums[s][v] = _mm256_fmadd_ps(x, x, sums[s][v]);
                }
            }
        }
        for (; k < source.depth; ++k, row += source.stride) {
            LOWRANK_UNROLL
            for (int v = 0; v < kVectors; ++v) {
                const __m256 x = PackLanes<float>::load(row + v * kCount);
                sums[0][v] = _mm256_fmadd_ps(x, x, sums[0][v]);
            }
        }
        LOWRANK_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const __m256 sum =
                _mm256_add_ps(_mm256_add_ps(sums[0][v], sums[1][v]), _mm256_add_ps(sums[2][v], sums[3][v]));
            _mm256_store_ps(squares + v * kCount, sum);
        }
    }

    alignas(32) float inverse_[kMostLanes] = {};
    alignas(32) float unit_[kMostLanes] = {};
};

/// One panel of `width` <= 16 lanes, the source's first ones, and behind its last step the lanes' units.
template <class S>
void pack_fixed_panel(const PackSource<S>& source, std::uint32_t* to, int width) {
    const FixedLanes lanes(source, width);
    pack_panel(lanes, source, to, width);
    lanes.write_units(to + (source.depth + 1) / 2 * width, width);
}

}  // namespace avx2
#endif

}  // namespace lowrank::cpu::detail
