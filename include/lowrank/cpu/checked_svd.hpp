// lowrank - the frame of a singular value decomposition by another library: its input, and the check of its result.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/svd_result.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace lowrank::cpu::detail {

template <class T>
using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

/// Pseudo-random signs from a fixed seed (Numerical Recipes' linear congruence).
template <class T>
std::vector<T> probe_signs(Eigen::Index count, std::uint32_t& state) {
    std::vector<T> signs(static_cast<std::size_t>(count));
    for (T& sign : signs) {
        state = state * 1664525U + 1013904223U;
        sign = (state >> 31) == 0 ? T(1) : T(-1);
    }
    return signs;
}

// The checks below are plain loops: an Eigen product of yet another kind costs a second of compile time each.

/// M x, column by column.
template <class T>
std::vector<T> times(const EigenMatrix<T>& m, const std::vector<T>& x) {
    std::vector<T> y(static_cast<std::size_t>(m.rows()));
    for (std::size_t j = 0; j < x.size(); ++j) {
        const T* column = m.data() + static_cast<Eigen::Index>(j) * m.rows();
        for (std::size_t i = 0; i < y.size(); ++i) y[i] += column[i] * x[j];
    }
    return y;
}

/// diag(s) M^T x.
template <class T>
std::vector<T> scaled_transpose_times(const EigenMatrix<T>& m, const std::vector<T>& s, const std::vector<T>& x) {
    std::vector<T> y(s);
    for (std::size_t j = 0; j < y.size(); ++j) {
        const T* column = m.data() + static_cast<Eigen::Index>(j) * m.rows();
        T sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) sum += column[i] * x[i];
        y[j] *= sum;
    }
    return y;
}

template <class T>
T norm(const T* x, std::size_t count) {
    T sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += x[i] * x[i];
    return std::sqrt(sum);
}
template <class T>
T norm(const std::vector<T>& x) {
    return norm(x.data(), x.size());
}

/// Is A = U diag(s) V^T with orthonormal U and V, up to rounding? Never trusts the solver's own word. Probes with
/// vectors of pseudo-random signs (Freivalds 1979) and by the Frobenius norm: O(rows cols).
template <class T>
bool is_decomposition(const EigenMatrix<T>& a, const EigenMatrix<T>& u, const EigenMatrix<T>& v,
                      const std::vector<T>& s) {
    // LAPACK accepts a residual of 50 n ulp |A|; a failed solver is off by many orders of magnitude more.
    const T allowed = 50 * static_cast<T>(a.rows()) * std::numeric_limits<T>::epsilon();
    for (std::size_t i = 0; i < s.size(); ++i) {
        if (!is_finite(s[i]) || s[i] < 0 || (i > 0 && s[i] > s[i - 1])) return false;
    }
    const T a_norm = norm(a.data(), static_cast<std::size_t>(a.size()));
    const auto near = [&](T x, T y, T scale) { return is_finite(x) && std::abs(x - y) <= allowed * scale; };
    if (!near(norm(s), a_norm, a_norm)) return false;
    std::uint32_t state = 1;
    for (int probe = 0; probe < 3; ++probe) {
        const std::vector<T> x = probe_signs<T>(a.cols(), state);
        const std::vector<T> expected = times(a, x);
        std::vector<T> residual = times(u, scaled_transpose_times(v, s, x));
        for (std::size_t i = 0; i < residual.size(); ++i) residual[i] -= expected[i];
        if (!near(norm(residual), 0, a_norm * norm(x))) return false;
        const std::vector<T> y = probe_signs<T>(a.cols(), state);  // orthonormal columns preserve length
        if (!near(norm(times(u, y)), norm(y), norm(y)) || !near(norm(times(v, y)), norm(y), norm(y))) return false;
    }
    return true;
}

/// A = U diag(s) V^T, column-major.
template <class T>
struct ThinSvd {
    EigenMatrix<T> u;
    EigenMatrix<T> v;
    std::vector<T> s;
};

/// Decomposes A by the first of `solvers`, calls bool(const EigenMatrix<T>& tall, ThinSvd<T>& result), that succeeds
/// and whose result is right. They get the tall one of A and A^T, scaled by a power of two: that is exact, and keeps
/// the squares of huge and of subnormal entries in range.
template <ComputeScalar T, class... Solvers>
std::optional<Svd<T>> checked_svd(MatrixView<const T> a, Solvers... solvers) {
    const std::int64_t k = std::min(a.rows(), a.cols());
    const bool wide = a.cols() > a.rows();
    T largest = 0;
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) largest = std::max(largest, std::abs(a(i, j)));
    }
    int exponent = 0;
    if (largest > 0) static_cast<void>(std::frexp(largest, &exponent));
    EigenMatrix<T> tall(std::max(a.rows(), a.cols()), k);
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            (wide ? tall(j, i) : tall(i, j)) = exponent == 0 ? a(i, j) : std::ldexp(a(i, j), -exponent);
        }
    }
    ThinSvd<T> svd;
    const bool done = ((solvers(tall, svd) && is_decomposition<T>(tall, svd.u, svd.v, svd.s)) || ...);
    if (!done) return std::nullopt;
    Svd<T> result{Matrix<T>::uninitialized(k, a.rows()), Matrix<T>::uninitialized(k, a.cols()), std::move(svd.s)};
    std::copy_n((wide ? svd.v : svd.u).data(), result.ut.size(), result.ut.data());
    std::copy_n((wide ? svd.u : svd.v).data(), result.vt.size(), result.vt.data());
    for (T& s : result.s) s = std::ldexp(s, exponent);
    return result;
}

}  // namespace lowrank::cpu::detail
