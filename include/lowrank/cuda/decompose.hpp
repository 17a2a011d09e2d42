// lowrank - decompose() on the device: weight in, factors out, both in device memory.
// SPDX-License-Identifier: MIT
//
// The same contract as the CPU's, see <lowrank/decompose_with.hpp>; the weight is never changed. A device without the
// memory for it throws cuda::DeviceError that names the bytes.
//
//     lowrank::cuda::Context gpu;
//     auto factors = lowrank::decompose(gpu, W, {.rank = lowrank::fixed_rank(384)});   // W, factors: DeviceSpace
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/scratch.hpp>
#include <lowrank/cuda/svd.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/weight.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/decompose_with.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/rank.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cuda {

namespace detail {

/// Factors of W = 0: orthonormal columns times nothing.
template <ComputeScalar C>
Factors<C, DeviceSpace> zero_factors(Context& context, std::int64_t d_in, std::int64_t d_out,
                                     const DecomposeOptions& options) {
    const std::vector<double> spectrum(static_cast<std::size_t>(std::min(d_in, d_out)));
    const std::int64_t rank = choose_rank(options.rank, d_in, d_out, {spectrum, 0}).rank;
    Matrix<C> w1(d_in, rank);
    for (std::int64_t k = 0; k < rank; ++k) w1(k, k) = 1;
    Factors<C, DeviceSpace> factors;
    factors.w1 = to_device(context, w1);
    factors.w2 = to_device(context, Matrix<C>(rank, d_out));
    if (options.singular_values) factors.singular_values.resize(spectrum.size());
    return factors;
}

/// Undoes the scaling of the weight: W2 and the singular values carry it.
template <ComputeScalar C>
void unscale(Context& context, Factors<C, DeviceSpace>& factors, int exponent, double largest, C* probe, C* sums,
             const std::string& name) {
    if (exponent == 0) return;
    for (C& s : factors.singular_values) s = std::ldexp(s, exponent);
    scale_by_power(context, static_cast<std::int64_t>(factors.w2.size()), exponent, factors.w2.data(), name);
    if (is_finite(static_cast<C>(std::ldexp(largest, exponent)))) return;  // no entry is above the largest value
    try {
        require_finite<C>(context, std::as_const(factors.w2).view(), probe, sums, name);
    } catch (const ValueError&) {
        throw ValueError("the factors of " + name + " overflow its type: its entries are near the largest number; " +
                         "scale the weight down");
    }
}

/// Below this relative error the error is measured on the residual itself: singular values near the rounding of the
/// largest are rounding errors themselves.
inline constexpr double kExplicitResidualBelow = 1e-3;

/// ||tall - U_r S_r V_r^T||_F. Destroys U and the solver's copy of the weight.
template <ComputeScalar C>
double residual_norm(Context& context, const Scratch& scratch, const SvdMemory<C>& memory, std::int64_t rank,
                     const std::string& name) {
    const std::int64_t m = memory.m;
    const std::int64_t n = memory.n;
    C* u = scratch.at(memory.u);
    C* rest = scratch.at(memory.a);
    vendor::scale_columns(context.blas(), m, rank, u, m, scratch.at(memory.s), u, m, name);
    vendor::copy_scaled<C>(context.blas(), m, n, 1, {scratch.at(memory.tall), m}, rest, m, name);
    vendor::gemm<C>(context.blas(), m, n, rank, -1, {u, m}, {scratch.at(memory.v), n, true}, 1, rest, m, name);
    return static_cast<double>(vendor::norm(context.blas(), m * n, rest, name));
}

/// W1 = U_r, W2 = S_r V_r^T with the rank chosen from all singular values.
template <Scalar T>
Factors<compute_t<T>, DeviceSpace> exact_factors(Context& context, DeviceView<const T> stored,
                                                 const DecomposeOptions& options) {
    using C = compute_t<T>;
    const TallShape<T> shape(stored);
    const bool in_out = options.layout == WeightLayout::in_out;
    const std::int64_t d_in = in_out ? stored.rows() : stored.cols();
    const std::int64_t d_out = in_out ? stored.cols() : stored.rows();
    const std::string doing = "decomposing " + options.name + ", " + shape_string(d_in, d_out);

    Scratch scratch;
    const SvdMemory<C> memory(context, scratch, shape.m, shape.n, doing);
    const Slot<T> probe = scratch.add<T>(shape.m);
    const Slot<C> sums = scratch.add<C>(shape.m);
    const Slot<C> wide_probe = scratch.add<C>(shape.m);
    const Slot<T> identity = scratch.add<T>(ComputeScalar<T> ? 0 : kWidenColumns * kWidenColumns);
    try {
        scratch.reserve(context);
    } catch (const DeviceError& error) {
        throw DeviceError(error.call(), error.status(), doing + ": " + error.what());
    }

    require_finite<T>(context, stored, scratch.at(probe), scratch.at(sums), options.name);
    C* tall = scratch.at(memory.tall);
    widen_tall<T>(context, stored, tall, scratch.at(memory.a), scratch.at(identity), doing);
    bool zero = false;
    const int exponent = normalise(context, shape.m * shape.n, tall, zero, doing);
    if (zero) return zero_factors<C>(context, d_in, d_out, options);
    std::vector<C> s = full_svd(context, scratch, memory, options.name, shape_string(d_in, d_out));

    const auto norm = static_cast<double>(vendor::norm(context.blas(), shape.m * shape.n, tall, doing));
    const std::vector<double> spectrum(s.begin(), s.end());
    const std::int64_t rank = choose_rank(options.rank, d_in, d_out, {spectrum, norm * norm}).rank;
    // U belongs to the longer side of the weight, V to the shorter.
    const bool u_is_left = shape.transposed == in_out;
    const C* left = scratch.at(u_is_left ? memory.u : memory.v);
    const C* right = scratch.at(u_is_left ? memory.v : memory.u);
    Factors<C, DeviceSpace> factors;
    factors.w1 = Matrix<C, DeviceSpace>(d_in, rank);
    factors.w2 = Matrix<C, DeviceSpace>(rank, d_out);
    vendor::copy_scaled<C>(context.blas(), rank, d_in, 1, {left, d_in, true}, factors.w1.data(), rank, doing);
    vendor::scale_columns<C>(context.blas(), d_out, rank, right, d_out, scratch.at(memory.s), factors.w2.data(), d_out,
                             doing);
    factors.method = Method::exact;

    double tail = 0;
    for (std::size_t i = spectrum.size(); i-- > static_cast<std::size_t>(rank);) tail += spectrum[i] * spectrum[i];
    double error = std::sqrt(tail);
    if (error < kExplicitResidualBelow * norm) error = residual_norm(context, scratch, memory, rank, doing);
    factors.relative_error = error / norm;
    if (options.singular_values) factors.singular_values = std::move(s);
    unscale(context, factors, exponent, spectrum[0], scratch.at(wide_probe), scratch.at(sums), options.name);
    context.synchronise(doing);
    return factors;
}

}  // namespace detail

/// Factorises a weight in device memory. See <lowrank/decompose.hpp>. Waits for the result.
template <Scalar T>
Factors<compute_t<T>, DeviceSpace> decompose_weight(Context& context, MatrixView<const T, DeviceSpace> stored,
                                                    const DecomposeOptions& options) {
    return detail::exact_factors<T>(context, stored, options);
}

}  // namespace lowrank::cuda
