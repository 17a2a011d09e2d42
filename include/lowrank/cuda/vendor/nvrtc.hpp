// lowrank - typed wrappers of NVRTC and of launching what it compiled. Each throws DeviceError on failure.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/vendor/status.hpp>

#include <cuda_runtime_api.h>
#include <nvrtc.h>

#include <cstddef>
#include <string>
#include <vector>

namespace lowrank::cuda::vendor {

inline void check_nvrtc(nvrtcResult status, const char* call, const std::string& doing) {
    if (status == NVRTC_SUCCESS) return;
    throw DeviceError(call, static_cast<int>(status),
                      std::string(call) + " failed with " + nvrtcGetErrorString(status) + "; while " + doing);
}

/// A cubin, and what the assembler said of registers and spills.
struct Compiled {
    std::vector<char> cubin;
    std::string log;
};

/// Compiles a source for one device generation, 80 or 90 or ... The source includes nothing.
inline Compiled compile(const char* source, int compute_capability) {
    const std::string doing = "compiling a kernel for sm_" + std::to_string(compute_capability);
    nvrtcProgram program = nullptr;
    check_nvrtc(nvrtcCreateProgram(&program, source, "lowrank.cu", 0, nullptr, nullptr), "nvrtcCreateProgram", doing);
    struct Destroy {
        nvrtcProgram program;
        ~Destroy() { static_cast<void>(nvrtcDestroyProgram(&program)); }
    } const destroy{program};
    const std::string architecture = "--gpu-architecture=sm_" + std::to_string(compute_capability);
    const char* options[] = {architecture.c_str(), "--std=c++17", "--ptxas-options=-v"};
    const nvrtcResult status = nvrtcCompileProgram(program, 3, options);
    Compiled result;
    std::size_t size = 0;
    check_nvrtc(nvrtcGetProgramLogSize(program, &size), "nvrtcGetProgramLogSize", doing);
    result.log.resize(size);
    check_nvrtc(nvrtcGetProgramLog(program, result.log.data()), "nvrtcGetProgramLog", doing);
    check_nvrtc(status, "nvrtcCompileProgram", doing + ": " + result.log);
    check_nvrtc(nvrtcGetCUBINSize(program, &size), "nvrtcGetCUBINSize", doing);
    result.cubin.resize(size);
    check_nvrtc(nvrtcGetCUBIN(program, result.cubin.data()), "nvrtcGetCUBIN", doing);
    return result;
}

using Library = Handle<cudaLibrary_t, cudaLibraryUnload>;

inline Library load_library(const Compiled& compiled) {
    cudaLibrary_t library = nullptr;
    check(cudaLibraryLoadData(&library, compiled.cubin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
          "cudaLibraryLoadData", "loading a compiled kernel");
    return Library::own(library);
}

inline cudaKernel_t kernel(cudaLibrary_t library, const char* name) {
    cudaKernel_t kernel = nullptr;
    check(cudaLibraryGetKernel(&kernel, library, name), "cudaLibraryGetKernel", name);
    return kernel;
}

/// Launches a kernel of one argument, all of its blocks at the same time.
template <class Arguments>
void launch_cooperatively(cudaKernel_t kernel, unsigned blocks, unsigned threads, std::size_t shared_bytes,
                          cudaStream_t stream, Arguments* arguments) {
    cudaLaunchAttribute cooperative{};
    cooperative.id = cudaLaunchAttributeCooperative;
    cooperative.val.cooperative = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &cooperative;
    config.numAttrs = 1;
    void* parameters[] = {arguments};
    check(cudaLaunchKernelExC(&config, static_cast<const void*>(kernel), parameters), "cudaLaunchKernelExC",
          "launching the fused kernel");
}

}  // namespace lowrank::cuda::vendor
