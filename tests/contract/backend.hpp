// What a contract test needs of a backend: a context, and ways to bring matrices to it and back.
#pragma once

#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/low_rank_linear.hpp>
#include <lowrank/matrix.hpp>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace contract {

/// Unit roundoff: half the distance from 1 to the next number.
template <class T>
constexpr double roundoff() {
    if constexpr (std::is_same_v<T, lowrank::bf16>) return 0x1p-8;
    if constexpr (std::is_same_v<T, lowrank::f16>) return 0x1p-11;
    if constexpr (std::is_same_v<T, float>) return 0x1p-24;
    return 0x1p-53;
}

template <class T>
lowrank::Matrix<T> gaussian(std::int64_t rows, std::int64_t cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    lowrank::Matrix<T> matrix(rows, cols);
    for (T* x = matrix.data(); x != matrix.data() + matrix.size(); ++x) *x = static_cast<T>(normal(random));
    return matrix;
}

}  // namespace contract
