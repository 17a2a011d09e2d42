#include <lowrank/low_rank_linear.hpp>
#ifdef WITH_DECOMPOSER
#include "decomposer.hpp"
#endif

int main() {
#ifdef WITH_DECOMPOSER
    if (decomposed_rank() != 3) return 1;
#endif
    const lowrank::Matrix<float> w1(8, 2);
    const lowrank::Matrix<float> w2(2, 6);
    const lowrank::LowRankLinear<float> layer(w1, w2, lowrank::WeightLayout::in_out);
    return layer.forward(lowrank::cpu::Context(), lowrank::Matrix<float>(3, 8)).cols() == 6 ? 0 : 1;
}
