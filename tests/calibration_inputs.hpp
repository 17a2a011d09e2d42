// Statistics like those of models, and the norms that they define, from their definition.
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/context.hpp>

#include "matrices.hpp"

#include <cmath>
#include <cstdint>

namespace lowrank::test_inputs {

using test::Dense;

/// Inputs as models have them: correlated, one direction far larger than the others, and an offset.
Dense inputs(std::int64_t rows, std::int64_t width, unsigned seed, double condition = 300, double outlier = 40);

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
Dense root(const Dense& a, double damping);

}  // namespace lowrank::test_inputs
