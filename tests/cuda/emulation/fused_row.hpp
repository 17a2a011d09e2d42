// The fused kernel's own source, compiled for the emulated grid.
#pragma once

#include <lowrank/cuda/fused.hpp>

#include <cstddef>
#include <string>

namespace emulation {

/// Runs the kernel of this name; pointers are such that the CPU can follow. Returns false for an unknown name.
bool run_fused_row(const std::string& name, const lowrank::cuda::detail::FusedRowArguments& arguments, unsigned blocks,
                   unsigned threads, std::size_t shared_bytes, int order = 0);

}  // namespace emulation
