// lowrank - all eigenvalues and eigenvectors of a symmetric matrix.
// SPDX-License-Identifier: MIT
//
// Householder tridiagonalisation (tridiagonal.hpp), then implicit QL with Wilkinson's shift (Dubrulle 1970), whose
// plane rotations are recorded and applied to the eigenvectors by vector kernels: about 4 times as fast as Eigen's own
// solver at order 432. About 9 n^3 operations. The residual is of order n ulp ||A||; so are the errors of the
// eigenvalues, however small they are themselves.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/kernels/rotate_rows.hpp>
#include <lowrank/cpu/tridiagonal.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cpu {

/// A = V^T diag(values) V with orthonormal rows of V, `vt` row-major: row i is the eigenvector of values[i].
template <ComputeScalar T>
struct SymmetricEigen {
    std::vector<double> values;  ///< descending
    Matrix<T> vt;                ///< order x order; empty if only the values were asked for
};

namespace detail {

/// Rotations are applied whenever this many have been recorded: 2 MiB of floats, a tenth of the last-level cache.
inline constexpr std::size_t kRotationsAtOnce = std::size_t{1} << 18;

/// Implicit QL on a tridiagonal matrix with diagonal d and subdiagonal e (e.size() = d.size(), the last entry unused).
/// d becomes the eigenvalues, unordered; the rows of `vt`, unless it is empty, are rotated along.
template <class T>
void tridiagonal_ql(const Context& context, std::vector<double>& d, std::vector<double>& e, MatrixView<T> vt) {
    constexpr int kMostSweeps = 60;  // per eigenvalue; two are usual
    const double ulp = std::numeric_limits<T>::epsilon();
    const std::size_t n = d.size();
    double norm = 0;
    for (std::size_t i = 0; i < n; ++i) norm = std::max(norm, std::abs(d[i]) + std::abs(e[i]));
    // An entry this small changes no eigenvalue by more than the tridiagonalisation did, also where all around it is
    // rounding.
    const double negligible = 0.1 * ulp * norm;
    std::vector<RotationSweep> sweeps;
    std::vector<PlaneRotation<T>> rotations;
    const auto apply = [&] {
        if (!vt.empty()) rotate_rows<T>(context, sweeps, rotations, vt);
        sweeps.clear();
        rotations.clear();
    };
    for (std::size_t l = 0; l < n; ++l) {
        for (int sweep = 0;; ++sweep) {
            std::size_t m = l;
            while (m + 1 < n && std::abs(e[m]) > std::max(negligible, ulp * (std::abs(d[m]) + std::abs(d[m + 1])))) ++m;
            if (m == l) break;
            if (sweep == kMostSweeps) throw BackendError("an eigenvalue iteration did not converge");
            double g = (d[l + 1] - d[l]) / (2 * e[l]);
            g = d[m] - d[l] + e[l] / (g + std::copysign(std::sqrt(g * g + 1), g));
            double s = 1;
            double c = 1;
            double p = 0;
            const std::size_t first = rotations.size();
            std::size_t i = m;
            for (; i > l; --i) {
                const double f = s * e[i - 1];
                const double b = c * e[i - 1];
                double r = std::sqrt(f * f + g * g);
                e[i] = r;
                if (r == 0) break;
                s = f / r;
                c = g / r;
                g = d[i] - p;
                r = (d[i - 1] - g) * s + 2 * c * b;
                p = s * r;
                d[i] = g + p;
                g = c * r - b;
                rotations.push_back({static_cast<T>(c), static_cast<T>(s)});
            }
            sweeps.push_back({static_cast<std::int64_t>(m) - 1, static_cast<std::int64_t>(rotations.size() - first)});
            if (i > l) {  // split in the middle of the sweep
                d[i] -= p;
                e[m] = 0;
            } else {
                d[l] -= p;
                e[l] = g;
                e[m] = 0;
            }
            if (rotations.size() >= kRotationsAtOnce) apply();
        }
    }
    apply();
}

}  // namespace detail

/// `a` is order x order, symmetric (the upper triangle is read) and finite. Throws ShapeError if it is not square,
/// BackendError if the iteration does not converge. The same result for any number of threads.
template <ComputeScalar T>
SymmetricEigen<T> symmetric_eigen(const Context& context, MatrixView<const T> a, bool want_vectors = true) {
    if (a.rows() != a.cols()) {
        throw ShapeError("a symmetric matrix cannot be " + shape_string(a.rows(), a.cols()));
    }
    const std::int64_t n = a.rows();
    SymmetricEigen<T> result;
    result.values.resize(static_cast<std::size_t>(n));
    if (n == 0) return result;

    T largest = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = i; j < n; ++j) largest = std::max(largest, std::abs(a(i, j)));
    }
    int exponent = 0;
    if (largest > 0) static_cast<void>(std::frexp(largest, &exponent));
    // Scaled by a power of two, so that no square leaves the range; in two factors, as one alone may leave it.
    const T half = std::ldexp(T{1}, -exponent / 2);
    const T rest = std::ldexp(T{1}, -exponent + exponent / 2);
    auto scaled = Matrix<T>::uninitialized(n, n);
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = i; j < n; ++j) scaled(i, j) = a(i, j) * half * rest;
    }
    detail::mirror_upper(context, scaled.view());
    detail::Tridiagonal<T> tridiagonal = detail::tridiagonalize(context, scaled);
    std::vector<double>& d = tridiagonal.diagonal;
    Matrix<T> vt;
    if (want_vectors) vt = detail::transposed_q(context, tridiagonal);
    detail::tridiagonal_ql<T>(context, d, tridiagonal.subdiagonal, vt.view());

    std::vector<std::size_t> order(d.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return d[i] > d[j]; });
    for (std::size_t i = 0; i < order.size(); ++i) result.values[i] = std::ldexp(d[order[i]], exponent);
    if (want_vectors) {
        result.vt = Matrix<T>(n, n);
        for (std::size_t i = 0; i < order.size(); ++i) {
            std::copy_n(vt.row(static_cast<std::int64_t>(order[i])), n, result.vt.row(static_cast<std::int64_t>(i)));
        }
    }
    return result;
}

}  // namespace lowrank::cpu
