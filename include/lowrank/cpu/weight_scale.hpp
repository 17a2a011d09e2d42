// lowrank - the magnitude of a weight: its finiteness, its largest entry and its norm, in two passes over it.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

namespace lowrank::cpu {

/// W = 2^exponent A with the largest |a_ij| in [1/2, 1): the scaling is exact, and keeps the squares that every norm
/// and Gram matrix needs in range. exponent = 0 for W = 0.
struct WeightScale {
    int exponent = 0;
    double squared_norm = 0;  ///< ||A||_F^2

    [[nodiscard]] bool is_zero() const { return squared_norm == 0; }
};

namespace detail {

inline constexpr std::int64_t kScaleRows = 64;  // of a task: a few hundred KiB

/// The bits of |x| as an integer, which orders as |x| does; NaN and infinity have all exponent bits set. Integers,
/// because comparisons of NaN mean nothing under -ffast-math.
inline std::int32_t magnitude_bits(float x) {
    return std::bit_cast<std::int32_t>(x) & 0x7fffffff;
}
inline std::int64_t magnitude_bits(double x) {
    return std::bit_cast<std::int64_t>(x) & 0x7fffffffffffffff;
}
inline std::int16_t magnitude_bits(bf16 x) {
    return static_cast<std::int16_t>(x.bits & 0x7fff);
}
inline std::int16_t magnitude_bits(f16 x) {
    return static_cast<std::int16_t>(x.bits & 0x7fff);
}

template <Scalar T>
[[noreturn]] void refuse_non_finite(MatrixView<const T> a, const std::string& name) {
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            if (is_finite(a(i, j))) continue;
            throw ValueError(name + ", " + shape_string(a.rows(), a.cols()) + ", is not finite at row " +
                             std::to_string(i) + ", column " + std::to_string(j) +
                             ": a NaN or an infinity cannot be factorised");
        }
    }
    throw ValueError(name + " is not finite");
}

/// Sum of (x 2^-exponent)^2 over one row; eight sums, so that they fill vectors.
template <Scalar T>
double squared_norm(const T* row, std::int64_t count, double scale, double rescale) {
    constexpr std::int64_t kLanes = 8;
    double sums[kLanes] = {};
    std::int64_t j = 0;
    for (; j + kLanes <= count; j += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) {
            const double x = static_cast<double>(row[j + l]) * scale * rescale;
            sums[l] += x * x;
        }
    }
    for (; j < count; ++j) {
        const double x = static_cast<double>(row[j]) * scale * rescale;
        sums[0] += x * x;
    }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace detail

/// Throws ValueError, naming the first place, if an entry is NaN or infinite. The same for any number of threads.
template <Scalar T>
WeightScale weight_scale(const Context& context, MatrixView<const T> a, const std::string& name) {
    using Bits = decltype(detail::magnitude_bits(T{}));
    const std::int64_t parts = (a.rows() + detail::kScaleRows - 1) / detail::kScaleRows;
    const auto for_rows = [&](auto&& body) {
        context.parallel_for(parts, [&](std::int64_t part) {
            const std::int64_t end = std::min((part + 1) * detail::kScaleRows, a.rows());
            for (std::int64_t i = part * detail::kScaleRows; i < end; ++i) body(i, static_cast<std::size_t>(part));
        });
    };
    std::vector<Bits> largest(static_cast<std::size_t>(parts));
    for_rows([&](std::int64_t i, std::size_t part) {
        Bits most = 0;
        for (const T* x = a.row(i); x != a.row(i) + a.cols(); ++x) most = std::max(most, detail::magnitude_bits(*x));
        largest[part] = std::max(largest[part], most);
    });
    WeightScale scale;
    const Bits most = largest.empty() ? Bits{0} : *std::max_element(largest.begin(), largest.end());
    if (most == 0) return scale;
    T value{};
    if constexpr (sizeof(T) == 2) {
        value.bits = static_cast<std::uint16_t>(most);
    } else {
        value = std::bit_cast<T>(most);
    }
    if (!is_finite(value)) detail::refuse_non_finite(a, name);
    static_cast<void>(std::frexp(static_cast<double>(value), &scale.exponent));
    // Two factors: 2^-exponent alone may be beyond the range of double.
    const double half = std::ldexp(1.0, -scale.exponent / 2);
    const double rest = std::ldexp(1.0, -(scale.exponent - scale.exponent / 2));
    std::vector<double> sums(static_cast<std::size_t>(parts));
    for_rows(
        [&](std::int64_t i, std::size_t part) { sums[part] += detail::squared_norm(a.row(i), a.cols(), half, rest); });
    for (const double sum : sums) scale.squared_norm += sum;
    return scale;
}

/// ||A||_F^2, summed in double. The same for any number of threads.
template <ComputeScalar T>
double squared_norm(const Context& context, MatrixView<const T> a) {
    std::vector<double> sums(static_cast<std::size_t>(a.rows()));
    context.parallel_for(a.rows(), [&](std::int64_t i) {
        sums[static_cast<std::size_t>(i)] = detail::squared_norm(a.row(i), a.cols(), 1.0, 1.0);
    });
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}

/// 2^-exponent W in the type that it is computed in.
template <Scalar T>
Matrix<compute_t<T>> scaled_copy(const Context& context, MatrixView<const T> a, int exponent) {
    using C = compute_t<T>;
    auto copy = Matrix<C>::uninitialized(a.rows(), a.cols());
    context.parallel_for(a.rows(), [&](std::int64_t i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            const C entry = static_cast<C>(a(i, j));
            copy(i, j) = exponent == 0 ? entry : std::ldexp(entry, -exponent);
        }
    });
    return copy;
}

}  // namespace lowrank::cpu
