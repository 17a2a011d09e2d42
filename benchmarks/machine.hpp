// The machine that a benchmark runs on: its name, and what its memory and its arithmetic can do at best.
// SPDX-License-Identifier: MIT
#pragma once

#include "harness.hpp"

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/target.hpp>
#include <lowrank/matrix.hpp>

#include <atomic>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace bench {

inline std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

namespace detail {

inline constexpr int kChains = 12;  // independent additions, enough for two units of a latency of 4 to 6 cycles

// The factor comes from the caller: with a constant the compiler would make additions of it. It does not see that all
// sums are equal: it would compute one.
#define BENCH_PEAK(name, attribute, vector, zero, one, step, store)          \
    attribute inline float name(std::int64_t count, float value) {           \
        vector sums[kChains];                                                \
        for (vector & sum : sums) {                                          \
            sum = zero;                                                      \
            __asm__ volatile("" : "+v"(sum));                                \
        }                                                                    \
        const auto factor = one;                                             \
        for (std::int64_t i = 0; i < count; ++i) {                           \
            LOWRANK_UNROLL for (int j = 0; j < kChains; ++j) sums[j] = step; \
        }                                                                    \
        float lanes[16] = {};                                                \
        float total = 0;                                                     \
        for (vector & sum : sums) {                                          \
            store;                                                           \
            total += lanes[0];                                               \
        }                                                                    \
        return total;                                                        \
    }
#if LOWRANK_X86_KERNELS
BENCH_PEAK(fma_avx2, LOWRANK_TARGET_AVX2, __m256, _mm256_setzero_ps(), _mm256_set1_ps(value),
           _mm256_fmadd_ps(factor, factor, sums[j]), _mm256_storeu_ps(lanes, sum))
BENCH_PEAK(fma_avx512, LOWRANK_TARGET_AVX512, __m512, _mm512_setzero_ps(), _mm512_set1_ps(value),
           _mm512_fmadd_ps(factor, factor, sums[j]), _mm512_storeu_ps(lanes, sum))
BENCH_PEAK(dot_avx512, LOWRANK_TARGET_AVX512_BF16, __m512, _mm512_setzero_ps(),
           _mm512_castps_si512(_mm512_set1_ps(value)),
           _mm512_dpbf16_ps(sums[j], reinterpret_cast<__m512bh>(factor), reinterpret_cast<__m512bh>(factor)),
           _mm512_storeu_ps(lanes, sum))
#endif
#undef BENCH_PEAK

/// Without such kernels: what the compiler makes of a plain loop.
inline float fma_portable(std::int64_t count, float value) {
    float sums[4 * kChains] = {};
    for (std::int64_t i = 0; i < count; ++i) {
        for (float& sum : sums) sum = sum * value + value;
    }
    float total = 0;
    for (float sum : sums) total += sum;
    return total;
}

}  // namespace detail

/// Reads memory and multiplies registers, with the context's threads and on its level: the limits of every kernel.
class Machine {
public:
    explicit Machine(const lowrank::cpu::Context& context) : context_(&context), memory_(1, kMemory / 8) {}

    /// Seconds of reading kBytes, each time others of kMemory, which no cache holds.
    [[nodiscard]] Contender stream() {
        return {"stream", [this](double seconds) {
                    std::size_t i = 0;
                    return time_calls(seconds, i, [&](std::size_t) { read_some(); });
                }};
    }
    /// Seconds of kOperations floating-point operations in registers: bf16 dot products or float FMAs.
    [[nodiscard]] Contender peak(bool dot) {
        return {"peak", [this, dot](double seconds) {
                    std::size_t i = 0;
                    return time_calls(seconds, i, [&](std::size_t) { compute(dot); });
                }};
    }
    [[nodiscard]] bool has_dot() const { return context_->isa() >= lowrank::cpu::Isa::avx512_bf16; }

    static constexpr std::int64_t kMemory = std::int64_t{256} << 20;
    static constexpr std::int64_t kBytes = kMemory / 16;  // as long as a forward takes, so that noise hits both alike
    static constexpr double kOperations = 1e8;

private:
    static constexpr std::int64_t kAhead = 4096 / 8;  // with prefetching as the kernels do it: never slower

    void read_some() {
        const std::int64_t threads = context_->threads();
        const std::int64_t part = kBytes / 8 / threads;
        const std::int64_t first = turn_++ % (kMemory / kBytes) * (kBytes / 8);
        context_->parallel_for(threads, [&](std::int64_t thread) {
            const std::uint64_t* from = memory_.data() + first + thread * part;
            std::uint64_t sums[16] = {};
            for (std::int64_t i = 0; i + 16 <= part; i += 16) {
                for (int j = 0; j < 16; j += 8) lowrank::cpu::detail::prefetch(from + i + j + kAhead);
                for (int j = 0; j < 16; ++j) sums[j] ^= from[i + j];
            }
            for (const std::uint64_t sum : sums) sink_.fetch_xor(sum, std::memory_order_relaxed);
        });
    }

    void compute(bool dot) {
        using lowrank::cpu::Isa;
        const Isa isa = context_->isa();
        float (*kernel)(std::int64_t, float) = detail::fma_portable;
        double lanes = 4;
#if LOWRANK_X86_KERNELS
        if (isa >= Isa::avx2) {
            kernel = isa >= Isa::avx512 ? (dot ? detail::dot_avx512 : detail::fma_avx512) : detail::fma_avx2;
            lanes = (isa >= Isa::avx512 ? 16 : 8) * (dot ? 2 : 1);
        }
#endif
        const std::int64_t threads = context_->threads();
        const double per_step = 2 * lanes * detail::kChains * static_cast<double>(threads);
        context_->parallel_for(threads, [&](std::int64_t) {
            const float result = kernel(static_cast<std::int64_t>(kOperations / per_step), factor_.load());
            sink_.fetch_xor(static_cast<std::uint64_t>(result), std::memory_order_relaxed);
        });
    }

    const lowrank::cpu::Context* context_;
    lowrank::Matrix<std::uint64_t> memory_;
    std::int64_t turn_ = 0;
    std::atomic<std::uint64_t> sink_{0};
    std::atomic<float> factor_{1};
};

}  // namespace bench
