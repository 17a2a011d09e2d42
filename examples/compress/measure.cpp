#include "measure.hpp"

#include <lowrank/checkpoint/measure_plan.hpp>

std::string measure_plan(const lowrank::CompressPlan& plan, int threads, std::int64_t rows) {
    const lowrank::cpu::Context cpu({.threads = threads});
    return lowrank::measured_table(cpu, plan, rows);
}
