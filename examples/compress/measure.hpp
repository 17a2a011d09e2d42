// Timing the layers of a plan. A translation unit of its own: it holds the forward kernels, main.cpp the decomposition.
#pragma once

#include <lowrank/checkpoint/compress_plan.hpp>

#include <cstdint>
#include <string>

/// The table of lowrank::measured_table on so many threads (0: all).
std::string measure_plan(const lowrank::CompressPlan& plan, int threads, std::int64_t rows);
