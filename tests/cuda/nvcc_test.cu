// nvcc takes the headers as a host compiler's driver, and the fused kernel ahead of time.
#include <lowrank/cuda/decompose.hpp>
#include <lowrank/cuda/kernels/fused_row.cuh>
#include <lowrank/cuda/low_rank_linear.hpp>

#include <cstdio>

int main() {
    cudaFuncAttributes attributes{};
    const cudaError_t status = cudaFuncGetAttributes(&attributes, lowrank_fused_row_bf16);
    if (status != cudaSuccess) {
        std::puts("no device to ask; compiled and linked");
        return 0;
    }
    return attributes.localSizeBytes == 0 ? 0 : 1;  // no spills
}
