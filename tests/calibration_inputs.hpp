// Statistics like those of models, and the norms that they define, from their definition.
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/context.hpp>

#include "matrices.hpp"

#include <Eigen/Eigenvalues>

#include <cmath>
#include <cstdint>
#include <random>

namespace lowrank::test_inputs {

using test::Dense;

/// Inputs as models have them: correlated, one direction far larger than the others, and an offset.
inline Dense inputs(std::int64_t rows, std::int64_t width, unsigned seed, double condition = 300, double outlier = 40) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    const Dense mix =
        test::with_spectrum(width, width, test::spectrum(test::Spectrum::geometric, width, condition), seed);
    Dense x = Dense::NullaryExpr(rows, width, [&] { return normal(random) + 0.3; }) * mix;
    if (width > 2) x.col(2) *= outlier;
    return x;
}

inline Moments moments_of(const Dense& x) {
    Moments moments(x.cols());
    moments.add(cpu::Context(), test::rounded<double>(x));
    return moments;
}

inline Dense mean_gram(const Moments& moments) {
    const auto gram = moments.gram();
    return test::widened(gram, 1 / static_cast<double>(moments.rows()));
}

/// ||scaled(X) A||_F is the root of the mean of ||x A||^2 over the rows.
inline Dense scaled(const Dense& x) {
    return x / std::sqrt(static_cast<double>(x.rows()));
}

/// The symmetric square root of A + damping mean(diag A) I.
inline Dense root(const Dense& a, double damping) {
    const Dense damped = a + damping * a.diagonal().mean() * Dense::Identity(a.rows(), a.cols());
    const Eigen::SelfAdjointEigenSolver<Dense> solver(damped);
    return solver.eigenvectors() * solver.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal() *
           solver.eigenvectors().transpose();
}

}  // namespace lowrank::test_inputs
