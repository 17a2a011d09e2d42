// What bench_decompose factorises: matrices by their spectrum, and a real weight.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace bench {

inline lowrank::Matrix<float> gaussian(std::int64_t rows, std::int64_t cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    lowrank::Matrix<float> matrix(rows, cols);
    for (std::size_t i = 0; i < matrix.size(); ++i) matrix.data()[i] = normal(random);
    return matrix;
}

/// Multiplies from the left by random Householder reflections: as orthogonal as float allows, and every entry mixes
/// with every other.
inline void reflect_rows(lowrank::Matrix<float>& matrix, unsigned seed) {
    constexpr int kReflections = 8;
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<double> v(static_cast<std::size_t>(matrix.rows()));
    std::vector<double> dots(static_cast<std::size_t>(matrix.cols()));
    for (int reflection = 0; reflection < kReflections; ++reflection) {
        double norm = 0;
        for (double& x : v) {
            x = normal(random);
            norm += x * x;
        }
        std::fill(dots.begin(), dots.end(), 0.0);
        for (std::int64_t i = 0; i < matrix.rows(); ++i) {
            for (std::size_t j = 0; j < dots.size(); ++j) {
                dots[j] += v[static_cast<std::size_t>(i)] * static_cast<double>(matrix.row(i)[j]);
            }
        }
        for (std::int64_t i = 0; i < matrix.rows(); ++i) {
            const double scale = 2 * v[static_cast<std::size_t>(i)] / norm;
            for (std::size_t j = 0; j < dots.size(); ++j) matrix.row(i)[j] -= static_cast<float>(scale * dots[j]);
        }
    }
}

inline lowrank::Matrix<float> transposed(const lowrank::Matrix<float>& matrix) {
    lowrank::Matrix<float> result(matrix.cols(), matrix.rows());
    for (std::int64_t i = 0; i < matrix.rows(); ++i) {
        for (std::int64_t j = 0; j < matrix.cols(); ++j) result(j, i) = matrix(i, j);
    }
    return result;
}

/// Singular values i^-1/2, about as trained weights decay; rows >= cols or not.
inline lowrank::Matrix<float> power_law(std::int64_t rows, std::int64_t cols) {
    lowrank::Matrix<float> matrix(rows, cols);
    for (std::int64_t i = 0; i < std::min(rows, cols); ++i) {
        matrix(i, i) = static_cast<float>(1 / std::sqrt(static_cast<double>(i + 1)));
    }
    reflect_rows(matrix, 1);
    lowrank::Matrix<float> flipped = transposed(matrix);
    reflect_rows(flipped, 2);
    return transposed(flipped);
}

}  // namespace bench
