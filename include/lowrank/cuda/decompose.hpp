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
#include <lowrank/cuda/fast.hpp>
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
#include <lowrank/spectrum.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
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
    Scratch scratch;
    LoadedWeight<T> weight(scratch, stored, options);
    const std::string& doing = weight.doing();
    const std::int64_t d_in = weight.d_in();
    const std::int64_t d_out = weight.d_out();
    const SvdMemory<C> memory(context, scratch, weight.m(), weight.n(), weight.tall(), weight.spare(), doing);
    weight.load(context, scratch);
    if (weight.zero()) return zero_factors<C>(context, d_in, d_out, options);
    std::vector<C> s = full_svd(context, scratch, memory, options.name, shape_string(d_in, d_out));

    const double norm = weight.norm();
    const std::vector<double> spectrum(s.begin(), s.end());
    const std::int64_t rank = choose_rank(options.rank, d_in, d_out, {spectrum, norm * norm}).rank;
    // U belongs to the longer side of the weight, V to the shorter.
    const C* left = scratch.at(weight.long_is_left() ? memory.u : memory.v);
    const C* right = scratch.at(weight.long_is_left() ? memory.v : memory.u);
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
    weight.unscale(context, scratch, factors, spectrum[0]);
    context.synchronise(doing);
    return factors;
}

/// ||W||_F^2
template <Scalar T>
double squared_norm(Context& context, DeviceView<const T> stored, const DecomposeOptions& options) {
    Scratch scratch;
    LoadedWeight<T> weight(scratch, stored, options);
    weight.load(context, scratch);
    return weight.zero() ? 0 : std::ldexp(weight.norm() * weight.norm(), 2 * weight.exponent());
}

/// By a rule that goes by the spectrum: of blocks that grow until they hold the rank, as on the CPU, then of that rank.
/// Nothing where the fast method does not serve.
template <Scalar T>
std::optional<Factors<compute_t<T>, DeviceSpace>> fast_factors_by_spectrum(Context& context, DeviceView<const T> stored,
                                                                           const DecomposeOptions& options) {
    constexpr std::int64_t kLeast = 32;
    constexpr std::int64_t kFirstTry = 8;  // this part of the order
    const std::int64_t order = std::min(stored.rows(), stored.cols());
    DecomposeOptions tried = options;
    tried.singular_values = true;
    for (std::int64_t limit = std::max(kLeast, order / kFirstTry); limit < order; limit *= 2) {
        tried.rank = fixed_rank(limit);
        if (!wants_fast(tried, stored.rows(), stored.cols())) return std::nullopt;
        const auto factors = fast_factors<T>(context, stored, tried);
        if (!factors) return std::nullopt;
        const Spectrum spectrum = lowrank::detail::spectrum_of(*factors, limit, squared_norm(context, stored, options));
        const auto choice = try_choose_rank(options.rank, factors->d_in(), factors->d_out(), spectrum);
        if (!choice || choice->rank > limit) continue;
        tried.rank = fixed_rank(choice->rank);
        tried.singular_values = options.singular_values;
        return fast_factors<T>(context, stored, tried);
    }
    return std::nullopt;
}

}  // namespace detail

/// Factorises a weight in device memory. See <lowrank/decompose.hpp>. Waits for the result.
template <Scalar T>
Factors<compute_t<T>, DeviceSpace> decompose_weight(Context& context, MatrixView<const T, DeviceSpace> stored,
                                                    const DecomposeOptions& options) {
    if (options.rank.needs_spectrum() && options.method != Method::exact) {
        if (auto factors = detail::fast_factors_by_spectrum<T>(context, stored, options)) return std::move(*factors);
    } else if (detail::wants_fast(options, stored.rows(), stored.cols())) {
        if (auto factors = detail::fast_factors<T>(context, stored, options)) return std::move(*factors);
    }
    return detail::exact_factors<T>(context, stored, options);
}

/// The leading singular values of a weight in device memory, in host memory. See <lowrank/decompose.hpp>.
template <Scalar T>
Spectrum decompose_weight_spectrum(Context& context, MatrixView<const T, DeviceSpace> stored, std::int64_t most,
                                   const DecomposeOptions& options) {
    DecomposeOptions values = options;
    values.rank = fixed_rank(most);
    values.singular_values = true;
    const auto factors = decompose_weight(context, stored, values);
    return lowrank::detail::spectrum_of(factors, most, detail::squared_norm(context, stored, options));
}

}  // namespace lowrank::cuda

namespace lowrank {

/// Many weights in device memory in one call, `options[i]` for `weights[i]`: one after the other, as each of them fills
/// the device. Errors as for decompose(); ShapeError if the counts differ.
template <class Weights>
auto decompose_batch(cuda::Context& context, const Weights& weights, std::span<const DecomposeOptions> options) {
    const std::span batch(weights);
    detail::require_options(batch.size(), options.size());
    std::vector<decltype(decompose(context, batch[0], options[0]))> results;
    for (std::size_t i = 0; i < batch.size(); ++i) results.push_back(decompose(context, batch[i], options[i]));
    return results;
}

}  // namespace lowrank
