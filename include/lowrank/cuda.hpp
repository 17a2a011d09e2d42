// lowrank - the CUDA backend: context, memory, decomposition, forward. Host code only: no nvcc needed. Link
// lowrank::cuda. SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/decompose.hpp>
#include <lowrank/cuda/low_rank_linear.hpp>
#include <lowrank/cuda/memory.hpp>
