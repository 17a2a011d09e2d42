// lowrank - sweeps of plane rotations on the rows of a matrix, on each level and by all threads.
// SPDX-License-Identifier: MIT
//
// Rotations of an implicit QR sweep touch neighbouring rows and all columns. Stripes of columns that fit the
// first-level cache are independent: each goes through all sweeps before the next, so the matrix is read once for many
// sweeps (the wavefront idea of Van Zee, van de Geijn, Quintana-Orti 2014, one stripe at a time).
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/simd_avx2.hpp>
#include <lowrank/cpu/kernels/simd_avx512.hpp>
#include <lowrank/cpu/kernels/simd_portable.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

namespace lowrank::cpu::detail {

template <class T>
struct PlaneRotation {
    T c;
    T s;
};

/// One sweep: rotations of the row pairs (k, k + 1), k = begin, begin - 1, ...
struct RotationSweep {
    std::int64_t begin;
    std::int64_t count;
};

// Columns in a stripe: two AVX-512 registers; 512 rows of them are 64 KiB, which a second-level cache holds.
template <class T>
inline constexpr int kStripe = static_cast<int>(128 / sizeof(T));

// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a file to include
#define LOWRANK_KERNELS <lowrank/cpu/kernels/rotate_rows.inl>
#include <lowrank/cpu/kernels/on_each_level.inl>
#undef LOWRANK_KERNELS

template <class T>
auto rotate_rows_for(Isa isa) {
    constexpr bool kFloat = sizeof(T) == sizeof(float);
    constexpr int kLanes = kStripe<T>;
    using Function = void (*)(const PlaneRotation<T>*, std::int64_t, std::int64_t, T*);
#if LOWRANK_X86_KERNELS
    if (isa >= Isa::avx512) {
        return Function(avx512::rotate_rows<std::conditional_t<kFloat, avx512::Float, avx512::Double>, kLanes>);
    }
    if (isa == Isa::avx2) {
        return Function(avx2::rotate_rows<std::conditional_t<kFloat, avx2::Float, avx2::Double>, kLanes>);
    }
#endif
    (void)isa;
    return Function(portable::rotate_rows<std::conditional_t<kFloat, portable::Float, portable::Double>, kLanes>);
}

/// Applies all sweeps, in order, to the rows of `m`. The result does not depend on the number of threads.
template <class T>
void rotate_rows(const Context& context, std::span<const RotationSweep> sweeps,
                 std::span<const PlaneRotation<T>> rotations, MatrixView<T> m) {
    constexpr std::int64_t kLanes = kStripe<T>;
    const auto kernel = rotate_rows_for<T>(context.isa());
    const std::int64_t stripes = (m.cols() + kLanes - 1) / kLanes;
    const std::int64_t workers = std::min<std::int64_t>(context.threads(), stripes);
    context.parallel_for(workers, [&](std::int64_t worker) {
        Matrix<T> stripe(m.rows(), kLanes);
        for (std::int64_t j = worker * stripes / workers * kLanes; j < (worker + 1) * stripes / workers * kLanes;
             j += kLanes) {
            const std::int64_t width = std::min(kLanes, m.cols() - j);
            for (std::int64_t i = 0; i < m.rows(); ++i) std::copy_n(m.row(i) + j, width, stripe.row(i));
            const PlaneRotation<T>* next = rotations.data();
            for (const RotationSweep& sweep : sweeps) {
                kernel(next, sweep.begin, sweep.count, stripe.data());
                next += sweep.count;
            }
            for (std::int64_t i = 0; i < m.rows(); ++i) std::copy_n(stripe.row(i), width, m.row(i) + j);
        }
    });
}

}  // namespace lowrank::cpu::detail
