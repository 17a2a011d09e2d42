// Test matrices with known singular values, and products in a wider type: the independent references of the tests.
// Their definitions are in matrices.cpp, as Eigen takes long to compile.
#pragma once

#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <Eigen/Core>

#include <cstdint>
#include <random>
#include <vector>

namespace test {

using Dense = Eigen::MatrixXd;

/// rows x cols, orthonormal columns (rows >= cols), Haar distributed up to signs.
Dense random_orthonormal(std::int64_t rows, std::int64_t cols, std::mt19937& random);

/// U diag(s) V^T with random U and V.
Dense with_spectrum(std::int64_t rows, std::int64_t cols, const std::vector<double>& s, unsigned seed);

/// Descending.
Eigen::VectorXd singular_values(const Dense& m);

/// Spectra with the largest value 1: LAPACK's test modes (dlatms) and the ones that trained weights resemble.
enum class Spectrum { even, geometric, clustered, one_large, log_uniform, flat, power_law };
inline constexpr Spectrum kSpectra[] = {Spectrum::even,      Spectrum::geometric,   Spectrum::clustered,
                                        Spectrum::one_large, Spectrum::log_uniform, Spectrum::flat,
                                        Spectrum::power_law};

std::vector<double> spectrum(Spectrum kind, std::int64_t count, double condition);

template <lowrank::Scalar T>
lowrank::Matrix<T> rounded(const Dense& source, double scale = 1) {
    lowrank::Matrix<T> target(source.rows(), source.cols());
    for (std::int64_t i = 0; i < target.rows(); ++i) {
        for (std::int64_t j = 0; j < target.cols(); ++j) target(i, j) = static_cast<T>(source(i, j) * scale);
    }
    return target;
}

template <class M>
Dense widened(const M& matrix, double scale = 1) {
    Dense target(matrix.rows(), matrix.cols());
    for (std::int64_t i = 0; i < matrix.rows(); ++i) {
        for (std::int64_t j = 0; j < matrix.cols(); ++j) target(i, j) = static_cast<double>(matrix(i, j)) * scale;
    }
    return target;
}

/// ||M||_1, the largest sum of a column; 0 for an empty matrix.
double norm1(const Dense& m);

/// ||W - W1 W2||_F, in double.
template <class T>
double error_norm(const Dense& w, const lowrank::Factors<T>& factors) {
    return (w - widened(factors.w1) * widened(factors.w2)).norm();
}

}  // namespace test
