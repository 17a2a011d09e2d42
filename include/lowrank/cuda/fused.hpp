// lowrank - opt-in: one token through a layer in one launch, for layers whose two launches cost more than their bytes.
// SPDX-License-Identifier: MIT
//
// At one row the weights of a small layer are read in about the time that a kernel takes to start. FusedRow computes
// y = (x W1) W2 + b in one cooperative launch (kernels/fused_row.inl), with the intermediate in float. Which is faster
// for a layer, this or forward(), depends on the device: measure, and keep a dense layer where neither wins.
// Needs NVRTC: link lowrank::cuda_fused. With nvcc, kernels/fused_row.cuh compiles the same source ahead of time.
//
//     lowrank::cuda::FusedRow fused(gpu);                 // compiles for the device, some 100 ms; one per context
//     if (fused.takes(layer)) fused.forward(layer, x, y);
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/low_rank_linear.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/vendor/nvrtc.hpp>
#include <lowrank/cuda/vendor/runtime.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

namespace lowrank::cuda {

namespace detail {

// The sources as text: neither has directives, so the preprocessor can quote them.
#define LOWRANK_KERNEL_SOURCE(...) #__VA_ARGS__ "\n"
inline constexpr const char* kFusedRowSource =
    "#define LOWRANK_DEVICE __device__ __forceinline__\n"
    "#define LOWRANK_KERNEL extern \"C\" __global__ void __launch_bounds__(256, 1)\n"
    "#define LOWRANK_SHARED(name) extern __shared__ float name[]\n"
#include <lowrank/cuda/kernels/fused_prelude.inl>
#include <lowrank/cuda/kernels/fused_row.inl>
    ;
#undef LOWRANK_KERNEL_SOURCE

/// LowrankFusedRow of the source.
struct FusedRowArguments {
    const void* x;
    const void* w1;
    const void* w2;
    const void* bias;
    void* y;
    float* middle;
    unsigned long long* barrier;
    int d_in;
    int rank;
    int d_out;
    int ld1;
    int ld2;
};

template <Scalar T>
constexpr const char* fused_row_name() {
    if constexpr (std::is_same_v<T, float>) return "lowrank_fused_row_f32";
    if constexpr (std::is_same_v<T, bf16>) return "lowrank_fused_row_bf16";
    return "lowrank_fused_row_f16";
}

}  // namespace detail

class FusedRow {
public:
    /// Compiles the kernels for the context's device. The context must outlive it. Throws DeviceError.
    explicit FusedRow(Context& context) : FusedRow(context, compile(context.device().compute_capability)) {}

    /// From kernels compiled before: by compile() for devices of this compute capability, kept by the host engine.
    FusedRow(Context& context, const vendor::Compiled& compiled)
        : context_(context),
          library_(vendor::load_library(compiled)),
          float_kernel_(vendor::kernel(library_.get(), detail::fused_row_name<float>())),
          bf16_kernel_(vendor::kernel(library_.get(), detail::fused_row_name<bf16>())),
          f16_kernel_(vendor::kernel(library_.get(), detail::fused_row_name<f16>())),
          barrier_(1, 1) {
        vendor::set_bytes(barrier_.data(), 0, barrier_.bytes(), context.stream());
    }

    /// The kernels for one device generation: 80, 90, 100, ... Needs no device.
    static vendor::Compiled compile(int compute_capability) {
        return vendor::compile(detail::kFusedRowSource, compute_capability);
    }

    /// Whether x and the intermediate fit into the shared memory that any device has.
    template <Scalar T>
    requires(!std::is_same_v<T, double>) [[nodiscard]] bool takes(const LowRankLinear<T>& layer) const {
        return shared_bytes(layer) <= kSharedBytes;
    }

    /// Queues y = (x W1) W2 + b; x is 1 x d_in, y 1 x d_out. The scratch memory grows at the first layer of a larger
    /// rank, and waits for the device then. Throws ShapeError if a size does not fit or the layer is too large.
    template <Scalar T>
    requires(!std::is_same_v<T, double>) void forward(const LowRankLinear<T>& layer, MatrixView<const T, DeviceSpace> x,
                                                      MatrixView<T, DeviceSpace> y) {
        if (x.rows() != 1 || y.rows() != 1 || x.cols() != layer.d_in() || y.cols() != layer.d_out()) {
            throw ShapeError("the fused kernel of a layer of " + shape_string(layer.d_in(), layer.d_out()) +
                             " cannot map X, " + shape_string(x.rows(), x.cols()) + ", to Y, " +
                             shape_string(y.rows(), y.cols()) + "; it takes one row");
        }
        if (!takes(layer)) {
            throw ShapeError("the fused kernel needs " + std::to_string(shared_bytes(layer)) +
                             " bytes of shared memory for a layer of " + shape_string(layer.d_in(), layer.d_out()) +
                             " and has " + std::to_string(kSharedBytes) + "; use forward() of the layer");
        }
        if (middle_.cols() < layer.rank()) {
            middle_ = {};
            middle_ = Matrix<float, DeviceSpace>(1, layer.rank());
        }
        const auto w1 = layer.w1_transposed();
        const auto w2 = layer.w2_transposed();
        const auto narrow = [](std::int64_t size) { return vendor::narrow(size, "the fused kernel"); };
        detail::FusedRowArguments arguments{x.data(),
                                            w1.data(),
                                            w2.data(),
                                            layer.bias().data(),
                                            y.data(),
                                            middle_.data(),
                                            barrier_.data(),
                                            narrow(layer.d_in()),
                                            narrow(layer.rank()),
                                            narrow(layer.d_out()),
                                            narrow(w1.leading_dimension()),
                                            narrow(w2.leading_dimension())};
        // One block for each multiprocessor: all are resident, which the barrier between them needs.
        vendor::launch_cooperatively(kernel<T>(), static_cast<unsigned>(context_.device().multiprocessors), kThreads,
                                     shared_bytes(layer), context_.stream(), &arguments);
    }

private:
    static constexpr unsigned kThreads = 256;           // as the kernels' launch bounds
    static constexpr std::size_t kSharedBytes = 48000;  // of 48 KiB that need no opting in

    template <Scalar T>
    static std::size_t shared_bytes(const LowRankLinear<T>& layer) {
        return static_cast<std::size_t>(layer.w1_transposed().leading_dimension() +
                                        layer.w2_transposed().leading_dimension() + kThreads / 32) *
               sizeof(float);
    }
    template <Scalar T>
    [[nodiscard]] cudaKernel_t kernel() const {
        if constexpr (std::is_same_v<T, float>) return float_kernel_;
        if constexpr (std::is_same_v<T, bf16>) return bf16_kernel_;
        return f16_kernel_;
    }

    Context& context_;
    vendor::Library library_;
    cudaKernel_t float_kernel_;
    cudaKernel_t bf16_kernel_;
    cudaKernel_t f16_kernel_;
    Matrix<unsigned long long, DeviceSpace> barrier_;
    Matrix<float, DeviceSpace> middle_;
};

}  // namespace lowrank::cuda
