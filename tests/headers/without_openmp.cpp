#include <lowrank/low_rank_linear.hpp>
#include <lowrank/model.hpp>

int threads_without_openmp() {
    return lowrank::cpu::Context().threads();
}
