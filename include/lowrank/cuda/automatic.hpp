// lowrank - decompose(W, rank) on the GPU if one answers, else on the CPU: the one-line form where CUDA is included.
// SPDX-License-Identifier: MIT
//
// Including this header adds overloads that are more constrained than those of <lowrank/decompose.hpp>, so that calls
// without a context choose them; calls in translation units without this header stay on the CPU.
//
//     auto factors = lowrank::decompose(W, 384);
//     auto logged = lowrank::decompose(W, 384, lowrank::WeightLayout::out_in,
//                                      [](const std::string& where) { std::clog << where << '\n'; });
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/offload.hpp>
#include <lowrank/decompose.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

namespace lowrank {

namespace cuda {

/// A context if a device answers; else nothing, and `why_not` says why, in one line.
inline std::optional<Context> try_context(std::string& why_not) {
    try {
        return std::optional<Context>(std::in_place);
    } catch (const BackendError& error) {
        why_not = error.what();
        return std::nullopt;
    }
}

/// "NVIDIA H100 80GB HBM3 (CUDA device 0)"
inline std::string describe(const Context& context) {
    return context.device().name + " (CUDA device " + std::to_string(context.device().index) + ")";
}

/// Told where a decomposition is computed and, if it is the CPU, why.
using PlacementLog = std::function<void(const std::string&)>;

/// True for every weight; naming it makes an overload the more constrained one.
template <class Weight>
concept CudaIncluded = true;

}  // namespace cuda

/// Factorises a host weight at a fixed rank on the GPU, or on the CPU if no device answers; `log` is told which.
template <class Weight>
requires(MatrixIn<Weight, HostSpace>&& cuda::CudaIncluded<Weight>) auto decompose(const Weight& weight,
                                                                                  std::int64_t rank,
                                                                                  WeightLayout layout,
                                                                                  const cuda::PlacementLog& log) {
    const DecomposeOptions options{.rank = fixed_rank(rank), .layout = layout};
    std::string why_not;
    if (std::optional<cuda::Context> gpu = cuda::try_context(why_not)) {
        if (log) log("computing on " + cuda::describe(*gpu));
        const cuda::Offload offload(*gpu);
        return decompose(offload, weight, options);
    }
    if (log) log("computing on the CPU: " + why_not);
    const cpu::Context cpu;
    return decompose(cpu, weight, options);
}

template <class Weight>
requires(MatrixIn<Weight, HostSpace>&& cuda::CudaIncluded<Weight>) auto decompose(
    const Weight& weight, std::int64_t rank, WeightLayout layout = WeightLayout::in_out) {
    return decompose(weight, rank, layout, cuda::PlacementLog());
}

}  // namespace lowrank
