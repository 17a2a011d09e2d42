#include "decomposer.hpp"

#include <lowrank/decompose.hpp>

#ifndef LOWRANK_COMPILED
#error "lowrank::compiled does not say so"
#endif

std::int64_t decomposed_rank() {
    lowrank::Matrix<float> w(8, 6);
    for (std::int64_t i = 0; i < 6; ++i) w(i, i) = 1;
    return lowrank::decompose(w, 3).rank();
}
