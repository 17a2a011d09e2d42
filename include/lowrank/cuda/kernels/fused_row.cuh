// lowrank - the fused one-row kernels for code that nvcc compiles: lowrank_fused_row_f32, _bf16, _f16.
// SPDX-License-Identifier: MIT
//
// Launch cooperatively with 256 threads, one block for each multiprocessor and (ld1 + ld2 + 8) * 4 bytes of shared
// memory; see the arguments in fused_row.inl. Include it in one translation unit.
#pragma once

#define LOWRANK_DEVICE __device__ __forceinline__
#define LOWRANK_KERNEL extern "C" __global__ void __launch_bounds__(256, 1)
#define LOWRANK_SHARED(name) extern __shared__ float name[]
#define LOWRANK_KERNEL_SOURCE(...) __VA_ARGS__
#include <lowrank/cuda/kernels/fused_prelude.inl>
#include <lowrank/cuda/kernels/fused_row.inl>
#undef LOWRANK_KERNEL_SOURCE
#undef LOWRANK_SHARED
#undef LOWRANK_KERNEL
#undef LOWRANK_DEVICE
