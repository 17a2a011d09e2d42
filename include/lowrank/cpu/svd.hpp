// lowrank - the full singular value decomposition on the CPU, by Eigen: the only file that includes Eigen/SVD.
// SPDX-License-Identifier: MIT
//
// Divide and conquer (Gu, Eisenstat 1995), which costs about 20 n^3 operations, with one-sided Jacobi (Demmel,
// Veselic 1992) for small matrices and where divide and conquer fails its checks. Including this file costs a
// translation unit some 15 s.
#pragma once

#include <lowrank/cpu/eigen_threads.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <Eigen/Core>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace lowrank::cpu {

/// A = U diag(s) V^T, thin: U is rows x k, V is cols x k, k = min(rows, cols), both column by column in memory, so
/// that `ut` and `vt` are row-major k x rows and k x cols.
template <ComputeScalar T>
struct Svd {
    Matrix<T> ut;
    Matrix<T> vt;
    std::vector<T> s;  ///< descending
};

namespace detail {

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

/// Takes over the solver's result if it is right.
template <class T, class Solver>
bool take_if_right(const EigenMatrix<T>& a, const Solver& solver, EigenMatrix<T>& u, EigenMatrix<T>& v,
                   std::vector<T>& s) {
    if (solver.info() != Eigen::Success) return false;
    u = solver.matrixU();
    v = solver.matrixV();
    s.assign(solver.singularValues().data(), solver.singularValues().data() + solver.singularValues().size());
    return is_decomposition<T>(a, u, v, s);
}

}  // namespace detail

/// Every singular value and vector of A, to working accuracy. A must be finite; it may be empty. `name` is used in
/// messages. Complexity O(rows cols min(rows, cols)) time, about 4 copies of A in memory. Runs on one thread.
/// Throws BackendError if no method converges.
template <ComputeScalar T>
Svd<T> full_svd(MatrixView<const T> a, const std::string& name) {
    using Dense = detail::EigenMatrix<T>;
    [[maybe_unused]] const detail::OneEigenThread one_thread;
    const std::int64_t k = std::min(a.rows(), a.cols());
    Svd<T> result{Matrix<T>(k, a.rows()), Matrix<T>(k, a.cols()), std::vector<T>(static_cast<std::size_t>(k))};
    if (k == 0) return result;

    // Decompose the tall one of A and A^T, scaled by a power of two: that is exact, and keeps the squares of huge and
    // of subnormal entries in range.
    const bool wide = a.cols() > a.rows();
    T largest = 0;
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) largest = std::max(largest, std::abs(a(i, j)));
    }
    int exponent = 0;
    if (largest > 0) static_cast<void>(std::frexp(largest, &exponent));
    Dense tall(std::max(a.rows(), a.cols()), k);
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            (wide ? tall(j, i) : tall(i, j)) = exponent == 0 ? a(i, j) : std::ldexp(a(i, j), -exponent);
        }
    }

    Dense u;
    Dense v;
    constexpr unsigned kThin = Eigen::ComputeThinU | Eigen::ComputeThinV;
    constexpr std::int64_t kJacobiUpTo = 16;  // Eigen's own threshold for switching to Jacobi inside BDCSVD
    if (!(k > kJacobiUpTo && detail::take_if_right<T>(tall, Eigen::BDCSVD<Dense>(tall, kThin), u, v, result.s)) &&
        !detail::take_if_right<T>(tall, Eigen::JacobiSVD<Dense>(tall, kThin), u, v, result.s)) {
        throw BackendError("the singular value decomposition of " + name + ", " + shape_string(a.rows(), a.cols()) +
                           ", did not converge");
    }
    std::copy_n((wide ? v : u).data(), result.ut.size(), result.ut.data());
    std::copy_n((wide ? u : v).data(), result.vt.size(), result.vt.data());
    for (T& s : result.s) s = std::ldexp(s, exponent);
    return result;
}

}  // namespace lowrank::cpu
