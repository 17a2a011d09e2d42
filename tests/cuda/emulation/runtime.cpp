// The emulated CUDA runtime: devices, memory, copies.
#include "state.hpp"

#include <cstring>
#include <string>

using namespace emulation;

namespace {

cudaError_t keep(cudaError_t error) {
    state().last_error = error;
    return error;
}

bool no_device() {
    return state().no_driver || state().device_memory == 0;
}
cudaError_t device_status() {
    if (state().no_driver) return keep(cudaErrorInsufficientDriver);
    if (state().device_memory == 0) return keep(cudaErrorNoDevice);
    return cudaSuccess;
}

/// Copies and fills must lie inside one allocation, or in ordinary host memory.
bool memory_rule(Call& call, const char* argument, const void* address, std::size_t bytes) {
    const bool inside = find_allocation(address, bytes) != nullptr;
    const bool ordinary = find_allocation(address, 1) == nullptr && alias(address) == address;
    return call.rule(inside || ordinary, std::string(argument) + " reaches outside its allocation",
                     "CUDA Runtime API, Memory Management: cudaErrorInvalidValue; compute-sanitizer memcheck");
}

}  // namespace

extern "C" {

const char* CUDARTAPI cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
        case cudaErrorNoDevice: return "cudaErrorNoDevice";
        case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
        case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
        default: return "cudaErrorUnknown";
    }
}

const char* CUDARTAPI cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        default: return "emulated";
    }
}

cudaError_t CUDARTAPI cudaGetLastError() {
    return std::exchange(state().last_error, cudaSuccess);
}

cudaError_t CUDARTAPI cudaGetDeviceCount(int* count) {
    LOWRANK_EMULATED("cudaGetDeviceCount", keep(cudaErrorUnknown));
    *count = no_device() ? 0 : 1;
    return device_status();
}

cudaError_t CUDARTAPI cudaGetDevice(int* device) {
    LOWRANK_EMULATED("cudaGetDevice", keep(cudaErrorUnknown));
    *device = 0;
    return device_status();
}

cudaError_t CUDARTAPI cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    LOWRANK_EMULATED("cudaGetDeviceProperties", keep(cudaErrorUnknown));
    if (!call.rule(device == 0, "there is no device " + std::to_string(device),
                   "CUDA Runtime API, cudaGetDeviceProperties: cudaErrorInvalidDevice")) {
        return keep(cudaErrorInvalidDevice);
    }
    *properties = {};
    std::strcpy(properties->name, "emulation on the CPU, not a GPU");
    properties->major = 9;
    properties->multiProcessorCount = 4;
    properties->totalGlobalMem = state().device_memory;
    return device_status();
}

cudaError_t CUDARTAPI cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    LOWRANK_EMULATED("cudaMemGetInfo", keep(cudaErrorUnknown));
    *total = state().device_memory;
    *free = state().device_memory - state().device_used;
    return device_status();
}

cudaError_t CUDARTAPI cudaMalloc(void** memory, std::size_t bytes) {
    LOWRANK_EMULATED("cudaMalloc", keep(cudaErrorMemoryAllocation));
    if (no_device()) return device_status();
    if (!call.rule(state().capturing == 0, "no allocation while a stream is being captured",
                   "CUDA Programming Guide, CUDA Graphs, Prohibited and Unhandled Operations")) {
        return keep(cudaErrorStreamCaptureUnsupported);
    }
    *memory = allocate_device(bytes);
    return *memory == nullptr ? keep(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t CUDARTAPI cudaFree(void* memory) {
    Call call("cudaFree");
    if (memory == nullptr) return cudaSuccess;
    if (!call.rule(state().capturing == 0, "no deallocation while a stream is being captured",
                   "CUDA Programming Guide, CUDA Graphs, Prohibited and Unhandled Operations")) {
        return keep(cudaErrorStreamCaptureUnsupported);
    }
    run_all();  // it waits for the device
    if (!call.rule(free_memory(memory, Kind::device), "the address is not one of cudaMalloc, or is free already",
                   "CUDA Runtime API, cudaFree: cudaErrorInvalidValue")) {
        return keep(cudaErrorInvalidValue);
    }
    return call.must_fail() ? keep(cudaErrorUnknown) : cudaSuccess;
}

cudaError_t CUDARTAPI cudaMallocHost(void** memory, std::size_t bytes) {
    LOWRANK_EMULATED("cudaMallocHost", keep(cudaErrorMemoryAllocation));
    if (no_device()) return device_status();
    *memory = allocate_pinned(bytes);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaFreeHost(void* memory) {
    Call call("cudaFreeHost");
    if (memory == nullptr) return cudaSuccess;
    run_all();
    if (!call.rule(free_memory(memory, Kind::pinned), "the address is not one of cudaMallocHost, or is free already",
                   "CUDA Runtime API, cudaFreeHost: cudaErrorInvalidValue")) {
        return keep(cudaErrorInvalidValue);
    }
    return call.must_fail() ? keep(cudaErrorUnknown) : cudaSuccess;
}

cudaError_t CUDARTAPI cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                                      cudaStream_t stream) {
    LOWRANK_EMULATED("cudaMemcpyAsync", keep(cudaErrorUnknown));
    bool right = call.rule(is_stream(stream), "the stream is not alive", "CUDA Runtime API, cudaMemcpyAsync");
    right = call.rule(kind == cudaMemcpyDefault, "only cudaMemcpyDefault is emulated", "this emulation") && right;
    right = memory_rule(call, "dst", to, bytes) && right;
    right = memory_rule(call, "src", from, bytes) && right;
    if (!right) return keep(cudaErrorInvalidValue);
    enqueue(stream, [=] { std::memmove(alias(to), alias(from), bytes); });
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                                        std::size_t width, std::size_t height, cudaMemcpyKind kind,
                                        cudaStream_t stream) {
    LOWRANK_EMULATED("cudaMemcpy2DAsync", keep(cudaErrorUnknown));
    constexpr const char* kSource = "CUDA Runtime API, cudaMemcpy2DAsync: width must not exceed either pitch";
    bool right = call.rule(is_stream(stream), "the stream is not alive", "CUDA Runtime API, cudaMemcpy2DAsync");
    right = call.rule(kind == cudaMemcpyDefault, "only cudaMemcpyDefault is emulated", "this emulation") && right;
    right = call.rule(width <= to_pitch && width <= from_pitch, "the width exceeds a pitch", kSource) && right;
    if (right && width > 0 && height > 0) {
        right = memory_rule(call, "dst", to, (height - 1) * to_pitch + width) && right;
        right = memory_rule(call, "src", from, (height - 1) * from_pitch + width) && right;
    }
    if (!right) return keep(cudaErrorInvalidValue);
    enqueue(stream, [=] {
        for (std::size_t i = 0; i < height; ++i) {
            std::memmove(static_cast<char*>(alias(to)) + i * to_pitch,
                         static_cast<const char*>(alias(from)) + i * from_pitch, width);
        }
    });
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
    LOWRANK_EMULATED("cudaMemsetAsync", keep(cudaErrorUnknown));
    bool right = call.rule(is_stream(stream), "the stream is not alive", "CUDA Runtime API, cudaMemsetAsync");
    right = call.rule(is_device(to, bytes), "the address is not that many bytes of device memory",
                      "CUDA Runtime API, cudaMemsetAsync: devPtr is a pointer to device memory") &&
            right;
    if (!right) return keep(cudaErrorInvalidValue);
    enqueue(stream, [=] { std::memset(alias(to), value, bytes); });
    return cudaSuccess;
}

}  // extern "C"
