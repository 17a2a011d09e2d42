// The real libraries, linked: with a GPU a layer runs, without one the context says why it cannot.
#include <lowrank/cuda/fused.hpp>
#include <lowrank/cuda/low_rank_linear.hpp>

#include <cstdio>

int main() {
    const lowrank::Matrix<float> w1(8, 2);
    const lowrank::Matrix<float> w2(2, 6);
    try {
        lowrank::cuda::Context gpu;
        const lowrank::cuda::LowRankLinear<float> layer(gpu, w1, w2, lowrank::WeightLayout::in_out);
        return layer.forward(gpu, lowrank::cuda::to_device(gpu, lowrank::Matrix<float>(3, 8))).cols() == 6 ? 0 : 1;
    } catch (const lowrank::cuda::DeviceError& error) {
        std::puts(error.what());
        return error.call() == "cudaGetDeviceCount" ? 0 : 1;
    }
}
