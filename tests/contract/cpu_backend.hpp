// The CPU as the contract tests see it: weights and results lie where they are.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/decompose_with.hpp>
#include <lowrank/low_rank_linear.hpp>
#include <lowrank/workspace.hpp>

#include "backend.hpp"

#include <utility>
#include <vector>

namespace test {

struct CpuBackend {
    using Space = lowrank::HostSpace;
    using Workspace = lowrank::Workspace;
    // Allowed to: kernels of dot products in bfloat16 round X W1.
    static constexpr bool kIntermediateInStorageType = true;

    const lowrank::cpu::Context& context() { return context_; }

    template <class T>
    lowrank::Matrix<T> upload(const lowrank::Matrix<T>& matrix) {
        return matrix;
    }
    template <class T>
    lowrank::Matrix<T> download(const lowrank::Matrix<T>& matrix) {
        return matrix;
    }
    template <lowrank::Scalar T>
    lowrank::Factors<lowrank::compute_t<T>> decompose(const lowrank::Matrix<T>& weight,
                                                      const lowrank::DecomposeOptions& options) {
        return lowrank::decompose(context_, weight, options);
    }
    template <lowrank::Scalar T>
    auto layer(const lowrank::Matrix<T>& w1, const lowrank::Matrix<T>& w2, lowrank::WeightLayout layout,
               const std::vector<float>& bias) {
        return lowrank::LowRankLinear<T>(w1, w2, layout, bias);
    }
    template <lowrank::Scalar T>
    auto stored(const lowrank::LowRankLinear<T>& layer) {
        return std::pair(layer.w1(), layer.w2());
    }

private:
    lowrank::cpu::Context context_;
};

}  // namespace test
