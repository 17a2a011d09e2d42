#include <lowrank/low_rank_linear.hpp>
#include <lowrank/model.hpp>

int threads_without_openmp();

int main() {
    const lowrank::cpu::Context two({.threads = 2, .parallel_for = [](std::int64_t n, lowrank::cpu::Task task) {
                                         for (std::int64_t i = 0; i < n; ++i) task(i);
                                     }});
    return threads_without_openmp() == 1 && two.threads() == 2 && lowrank::cpu::Context().threads() >= 1 ? 0 : 1;
}
