// Test matrices with known singular values, and products in a wider type: the independent references of the tests.
#pragma once

#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <eigen_solvers.hpp>

#include <Eigen/Core>
#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace test {

using Dense = Eigen::MatrixXd;

/// rows x cols, orthonormal columns (rows >= cols), Haar distributed up to signs.
inline Dense random_orthonormal(std::int64_t rows, std::int64_t cols, std::mt19937& random) {
    std::normal_distribution<double> normal;
    const Dense gaussian = Dense::NullaryExpr(rows, cols, [&] { return normal(random); });
    const Eigen::HouseholderQR<Dense> qr(gaussian);
    return qr.householderQ() * Dense::Identity(rows, cols);
}

/// U diag(s) V^T with random U and V.
inline Dense with_spectrum(std::int64_t rows, std::int64_t cols, const std::vector<double>& s, unsigned seed) {
    std::mt19937 random(seed);
    const auto k = static_cast<std::int64_t>(s.size());
    const Dense u = random_orthonormal(rows, k, random);
    const Dense v = random_orthonormal(cols, k, random);
    return u * Eigen::Map<const Eigen::VectorXd>(s.data(), k).asDiagonal() * v.transpose();
}

/// Spectra with the largest value 1: LAPACK's test modes (dlatms) and the ones that trained weights resemble.
enum class Spectrum { even, geometric, clustered, one_large, log_uniform, flat, power_law };
inline constexpr Spectrum kSpectra[] = {Spectrum::even,      Spectrum::geometric,   Spectrum::clustered,
                                        Spectrum::one_large, Spectrum::log_uniform, Spectrum::flat,
                                        Spectrum::power_law};

inline std::vector<double> spectrum(Spectrum kind, std::int64_t count, double condition) {
    std::mt19937 random(11);
    std::uniform_real_distribution<double> uniform;
    std::vector<double> s;
    for (std::int64_t i = 0; i < count; ++i) {
        const double t = count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0;
        switch (kind) {
            case Spectrum::even: s.push_back(1 - t * (1 - 1 / condition)); break;
            case Spectrum::geometric: s.push_back(std::pow(condition, -t)); break;
            case Spectrum::clustered: s.push_back(i + 1 < count ? 1 : 1 / condition); break;
            case Spectrum::one_large: s.push_back(i == 0 ? 1 : 1 / condition); break;
            case Spectrum::log_uniform: s.push_back(std::pow(condition, -uniform(random))); break;
            case Spectrum::flat: s.push_back(1); break;
            case Spectrum::power_law: s.push_back(1 / std::sqrt(static_cast<double>(i + 1))); break;
        }
    }
    std::sort(s.rbegin(), s.rend());
    return s;
}

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
inline double norm1(const Dense& m) {
    return m.size() == 0 ? 0 : m.cwiseAbs().colwise().sum().maxCoeff();
}

/// ||W - W1 W2||_F, in double.
template <class T>
double error_norm(const Dense& w, const lowrank::Factors<T>& factors) {
    return (w - widened(factors.w1) * widened(factors.w2)).norm();
}

}  // namespace test
