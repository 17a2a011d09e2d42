// lowrank - a weight on the device made ready for a decomposition: finite, in the compute type, scaled, tall.
// SPDX-License-Identifier: MIT
//
// By library calls alone. Half types are widened by a product with the identity, which is exact: x * 1 + 0 + ... in
// float. Non-finite entries are found by the sums of the rows times a number so small that finite sums stay finite.
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/scratch.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace lowrank::cuda::detail {

template <class T>
using DeviceView = MatrixView<T, DeviceSpace>;

/// f16 sums fit into float as they are, and 2^-64 does not fit into f16.
template <Scalar T>
T finite_probe() {
    if constexpr (std::is_same_v<T, f16>) return f16(1.0F);
    return static_cast<T>(std::is_same_v<T, double> ? 0x1p-512 : 0x1p-64);
}

/// Throws ValueError naming the first NaN or infinity. `probe` and `sums` hold a.cols() and a.rows() entries. Waits.
template <Scalar T>
void require_finite(Context& context, DeviceView<const T> a, T* probe, compute_t<T>* sums, const std::string& name) {
    const std::vector<T> ones(static_cast<std::size_t>(a.cols()), finite_probe<T>());
    upload(context, ones.data(), a.cols(), probe);
    vendor::gemm<T>(context.blas(), a.rows(), 1, a.cols(), 1, {a.data(), a.leading_dimension(), true},
                    {probe, a.cols()}, 0, sums, a.rows(), name);
    std::vector<compute_t<T>> rows(static_cast<std::size_t>(a.rows()));
    download(context, sums, a.rows(), rows.data());
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        if (is_finite(rows[static_cast<std::size_t>(i)])) continue;
        const Matrix<T> row = to_host(context, a.block(i, 0, 1, a.cols()));
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            if (is_finite(row(0, j))) continue;
            throw ValueError(name + ", " + shape_string(a.rows(), a.cols()) + ", is not finite at row " +
                             std::to_string(i) + ", column " + std::to_string(j) +
                             ": a NaN or an infinity cannot be factorised");
        }
    }
}

/// Columns of the identity that widening multiplies by: 128 KiB, and few enough operations not to matter.
inline constexpr std::int64_t kWidenColumns = 256;

/// The weight as cuBLAS sees it is the column-major transpose of the row-major view.
template <Scalar T>
struct TallShape {
    explicit TallShape(DeviceView<const T> a)
        : transposed(a.rows() > a.cols()), m(std::max(a.rows(), a.cols())), n(std::min(a.rows(), a.cols())) {}
    bool transposed;  ///< the tall matrix is the row-major one itself; else its transpose
    std::int64_t m;
    std::int64_t n;
};

/// tall (m x n, column-major) := the weight in the compute type; `wide` holds as many entries, `identity`
/// kWidenColumns^2. Half types pass through `wide`.
template <Scalar T>
void widen_tall(Context& context, DeviceView<const T> a, compute_t<T>* tall, compute_t<T>* wide, T* identity,
                const std::string& name) {
    using C = compute_t<T>;
    const TallShape<T> shape(a);
    vendor::Operand source{a.data(), a.leading_dimension(), shape.transposed};
    if constexpr (!ComputeScalar<T>) {
        const std::int64_t step = std::min(kWidenColumns, a.rows());
        std::vector<T> ones(static_cast<std::size_t>(step * step));
        for (std::int64_t i = 0; i < step; ++i) ones[static_cast<std::size_t>(i * step + i)] = T(1.0F);
        upload(context, ones.data(), step * step, identity);
        for (std::int64_t i = 0; i < a.rows(); i += step) {
            const std::int64_t rows = std::min(step, a.rows() - i);
            vendor::gemm<T>(context.blas(), a.cols(), rows, rows, 1, {a.row(i), a.leading_dimension()},
                            {identity, step}, 0, wide + i * a.cols(), a.cols(), name);
        }
        source = {wide, a.cols(), shape.transposed};
    }
    vendor::copy_scaled<C>(context.blas(), shape.m, shape.n, 1, source, tall, shape.m, name);
}

/// x *= 2^exponent, in steps that are numbers of the type themselves.
template <ComputeScalar C>
void scale_by_power(Context& context, std::int64_t count, int exponent, C* x, const std::string& name) {
    constexpr int kStep = std::is_same_v<C, double> ? 1000 : 100;
    while (exponent != 0) {
        const int step = std::clamp(exponent, -kStep, kStep);
        vendor::scale(context.blas(), count, std::ldexp(C(1), step), x, name);
        exponent -= step;
    }
}

/// Scales x by a power of two so that its largest entry lies in [1/2, 1), which keeps squares in range, and returns the
/// exponent that undoes it; 0 with `zero` set if there is nothing to scale. Waits.
template <ComputeScalar C>
int normalise(Context& context, std::int64_t count, C* x, bool& zero, const std::string& name) {
    C largest = 0;
    download(context, x + vendor::largest(context.blas(), count, x, name), 1, &largest);
    zero = largest == 0;
    int exponent = 0;
    if (!zero) static_cast<void>(std::frexp(largest, &exponent));
    scale_by_power(context, count, -exponent, x, name);
    return exponent;
}

}  // namespace lowrank::cuda::detail
