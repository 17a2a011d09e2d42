// lowrank - Offload: a context for weights in host memory that are decomposed on the device.
// SPDX-License-Identifier: MIT
//
// What works on host weights with a cpu::Context (decompose, lowrank_model, compress) works with an Offload, which
// copies each weight to the device and its factors back.
//
//     lowrank::cuda::Context gpu;
//     lowrank::cuda::Offload offload(gpu);
//     lowrank::Factors<float> factors = lowrank::decompose(offload, host_weight, {.rank = lowrank::fixed_rank(384)});
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/decompose.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <string>

namespace lowrank::cuda {

class Offload {
public:
    /// Borrows the context.
    explicit Offload(Context& context) : context_(context) {}

    [[nodiscard]] Context& context() const { return context_; }
    /// For reports: threads of the CPU that compute.
    [[nodiscard]] int threads() const { return 1; }

private:
    Context& context_;
};

/// Factorises a weight in host memory on the device. See <lowrank/decompose.hpp>.
template <Scalar T>
Factors<compute_t<T>> decompose_weight(const Offload& offload, MatrixView<const T> stored,
                                       const DecomposeOptions& options) {
    Context& context = offload.context();
    const Matrix<T, DeviceSpace> weight = to_device(context, stored);
    return to_host(context, decompose_weight(context, weight.view(), options));
}

}  // namespace lowrank::cuda
