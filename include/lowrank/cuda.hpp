// lowrank - the CUDA backend: context, memory, decomposition, forward. Host code only, so no nvcc is needed; link
// lowrank::cuda. Including it costs a translation unit the CPU's decomposition, which the one-line decompose(W, rank)
// falls back to; code that does not want that includes the headers below <lowrank/cuda/> that it needs.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/automatic.hpp>
#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/decompose.hpp>
#include <lowrank/cuda/low_rank_linear.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/offload.hpp>
