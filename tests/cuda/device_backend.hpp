// The CUDA backend as the contract tests see it.
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/decompose.hpp>
#include <lowrank/cuda/low_rank_linear.hpp>
#include <lowrank/cuda/memory.hpp>

#include "contract/backend.hpp"

#include <utility>
#include <vector>

namespace test {

struct DeviceBackend {
    using Space = lowrank::cuda::DeviceSpace;
    using Workspace = lowrank::cuda::Workspace;
    static constexpr bool kIntermediateInStorageType = true;

    lowrank::cuda::Context& context() { return context_; }

    template <class T>
    lowrank::Matrix<T, Space> upload(const lowrank::Matrix<T>& matrix) {
        return lowrank::cuda::to_device(context_, matrix);
    }
    template <class T>
    lowrank::Matrix<T> download(const lowrank::Matrix<T, Space>& matrix) {
        return lowrank::cuda::to_host(context_, matrix);
    }
    template <lowrank::Scalar T>
    lowrank::Factors<lowrank::compute_t<T>> decompose(const lowrank::Matrix<T>& weight,
                                                      const lowrank::DecomposeOptions& options) {
        return lowrank::cuda::to_host(context_, lowrank::decompose(context_, upload(weight), options));
    }
    template <lowrank::Scalar T>
    auto layer(const lowrank::Matrix<T>& w1, const lowrank::Matrix<T>& w2, lowrank::WeightLayout layout,
               const std::vector<float>& bias) {
        return lowrank::cuda::LowRankLinear<T>(context_, w1, w2, layout, bias);
    }
    template <lowrank::Scalar T>
    auto stored(const lowrank::cuda::LowRankLinear<T>& layer) {
        return std::pair(layer.w1(context_), layer.w2(context_));
    }

private:
    lowrank::cuda::Context context_;
};

}  // namespace test
