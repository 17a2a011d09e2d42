#include "calibration_inputs.hpp"

#include <Eigen/Eigenvalues>

#include <random>

namespace lowrank::test_inputs {

Dense inputs(std::int64_t rows, std::int64_t width, unsigned seed, double condition, double outlier) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    const Dense mix =
        test::with_spectrum(width, width, test::spectrum(test::Spectrum::geometric, width, condition), seed);
    Dense x = Dense::NullaryExpr(rows, width, [&] { return normal(random) + 0.3; }) * mix;
    if (width > 2) x.col(2) *= outlier;
    return x;
}

Dense root(const Dense& a, double damping) {
    const Dense damped = a + damping * a.diagonal().mean() * Dense::Identity(a.rows(), a.cols());
    const Eigen::SelfAdjointEigenSolver<Dense> solver(damped);
    return solver.eigenvectors() * solver.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal() *
           solver.eigenvectors().transpose();
}

}  // namespace lowrank::test_inputs
