// lowrank - typed wrappers of the CUDA runtime: devices, memory, streams. Each throws DeviceError on failure.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/vendor/status.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace lowrank::cuda::vendor {

struct Device {
    int index = 0;
    std::string name;
    int compute_capability = 0;  ///< 10 major + minor: 90 for Hopper
    int multiprocessors = 0;
    std::size_t memory = 0;  ///< bytes in all
};

/// The calling thread's current device.
inline Device current_device() {
    int count = 0;
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount", "looking for a device");
    if (count == 0) throw BackendError("this machine has no CUDA device");
    Device device;
    check(cudaGetDevice(&device.index), "cudaGetDevice", "asking for the current device");
    const auto properties = std::make_unique<cudaDeviceProp>();  // 1 KiB
    check(cudaGetDeviceProperties(properties.get(), device.index), "cudaGetDeviceProperties",
          "asking what the device is");
    device.name = properties->name;
    device.compute_capability = 10 * properties->major + properties->minor;
    device.multiprocessors = properties->multiProcessorCount;
    device.memory = properties->totalGlobalMem;
    return device;
}

struct DeviceFree {
    void operator()(void* memory) const noexcept { static_cast<void>(cudaFree(memory)); }
};
struct PinnedFree {
    void operator()(void* memory) const noexcept { static_cast<void>(cudaFreeHost(memory)); }
};

/// Uninitialised device memory, aligned to 256 bytes; null for 0 bytes. A failure names the bytes that are free.
inline void* allocate(std::size_t bytes, std::string_view what) {
    if (bytes == 0) return nullptr;
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status == cudaSuccess) return memory;
    std::string doing = "allocating " + std::to_string(bytes) + " bytes of device memory for " + std::string(what);
    std::size_t free = 0;
    std::size_t total = 0;
    if (status == cudaErrorMemoryAllocation && cudaMemGetInfo(&free, &total) == cudaSuccess) {
        doing += ", of which " + std::to_string(free) + " of " + std::to_string(total) + " are free";
    }
    check(status, "cudaMalloc", doing);
    return nullptr;
}

/// Uninitialised page-locked host memory, which asynchronous copies need.
inline void* allocate_pinned(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "cudaMallocHost",
          "allocating " + std::to_string(bytes) + " bytes of page-locked memory");
    return memory;
}

/// Copies `rows` rows of `width` bytes, in the order of the stream. The kinds of memory follow from the pointers.
inline void copy(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                 std::size_t rows, cudaStream_t stream, std::string_view doing) {
    if (width == 0 || rows == 0) return;
    if (rows == 1 || (to_pitch == width && from_pitch == width)) {
        check(cudaMemcpyAsync(to, from, width * rows, cudaMemcpyDefault, stream), "cudaMemcpyAsync", doing);
    } else {
        check(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, rows, cudaMemcpyDefault, stream),
              "cudaMemcpy2DAsync", doing);
    }
}

inline void set_bytes(void* to, int value, std::size_t bytes, cudaStream_t stream) {
    check(cudaMemsetAsync(to, value, bytes, stream), "cudaMemsetAsync", "clearing device memory");
}

using Stream = Handle<cudaStream_t, cudaStreamDestroy>;

/// A stream of its own, that does not wait for the default stream.
inline Stream make_stream() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags", "making a stream");
    return Stream::own(stream);
}

inline void synchronise(cudaStream_t stream, std::string_view doing) {
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", doing);
}

}  // namespace lowrank::cuda::vendor
