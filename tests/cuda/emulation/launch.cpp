// Emulated loading and launching of what NVRTC compiled: the fused kernel runs as C++ on the emulated grid.
#include "fused_row.hpp"
#include "state.hpp"

#include <cstring>
#include <string>

using namespace emulation;

namespace {

constexpr const char* kLibrary = "compiled library";
constexpr const char* kElf = "\177ELF";
constexpr std::size_t kMostShared = 48 * 1024;
// Kernels have no life of their own; a name is all that is needed.
const char* const kNames[] = {"lowrank_fused_row_f32", "lowrank_fused_row_bf16", "lowrank_fused_row_f16"};

}  // namespace

extern "C" {

cudaError_t CUDARTAPI cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption*, void**, unsigned,
                                          cudaLibraryOption*, void**, unsigned) {
    LOWRANK_EMULATED("cudaLibraryLoadData", cudaErrorUnknown);
    if (!call.rule(std::memcmp(code, kElf, 4) == 0, "the code is no cubin",
                   "CUDA Runtime API, cudaLibraryLoadData: cubin, PTX or fatbin")) {
        return cudaErrorInvalidKernelImage;
    }
    *library = reinterpret_cast<cudaLibrary_t>(make_handle(kLibrary));
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaLibraryUnload(cudaLibrary_t library) {
    Call call("cudaLibraryUnload");
    if (!call.rule(destroy_handle(library, kLibrary), "the library is not loaded",
                   "CUDA Runtime API, cudaLibraryUnload"))
        return cudaErrorInvalidResourceHandle;
    return call.must_fail() ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t CUDARTAPI cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
    LOWRANK_EMULATED("cudaLibraryGetKernel", cudaErrorUnknown);
    if (!call.rule(is_handle(library, kLibrary), "the library is not loaded", "CUDA Runtime API, cudaLibraryGetKernel"))
        return cudaErrorInvalidResourceHandle;
    for (const char* const& known : kNames) {
        if (std::string(known) != name) continue;
        *kernel = reinterpret_cast<cudaKernel_t>(const_cast<char**>(&known));
        return cudaSuccess;
    }
    call.rule(false, std::string("there is no kernel ") + name, "CUDA Runtime API, cudaLibraryGetKernel");
    return cudaErrorSymbolNotFound;
}

cudaError_t CUDARTAPI cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** parameters) {
    LOWRANK_EMULATED("cudaLaunchKernelExC", cudaErrorLaunchFailure);
    const std::string name = *static_cast<const char* const*>(kernel);
    auto a = *static_cast<const lowrank::cuda::detail::FusedRowArguments*>(parameters[0]);
    constexpr const char* kSource = "CUDA Runtime API, cudaLaunchKernelExC";
    bool right = call.rule(is_stream(config->stream), "the stream is not alive", kSource);
    right = call.rule(config->numAttrs == 1 && config->attrs[0].id == cudaLaunchAttributeCooperative &&
                          config->attrs[0].val.cooperative == 1,
                      "a kernel with a barrier across its grid must be launched cooperatively",
                      "CUDA Programming Guide, Cooperative Groups, Grid Synchronization") &&
            right;
    right =
        call.rule(config->gridDim.x <= 4, "more blocks than are resident at a time: cudaErrorCooperativeLaunchTooLarge",
                  "CUDA Runtime API, cudaLaunchCooperativeKernel") &&
        right;
    right = call.rule(config->blockDim.x == 256, "not the kernel's launch bounds",
                      "CUDA Programming Guide, Launch Bounds") &&
            right;
    right = call.rule(config->dynamicSmemBytes <= kMostShared, "more than 48 KiB of shared memory needs opting in",
                      "CUDA Programming Guide, Shared Memory, compute capability 7.x and later") &&
            right;
    if (!right) return cudaErrorInvalidValue;
    const std::size_t element = name == "lowrank_fused_row_f32" ? 4 : 2;
    const auto bytes = [element](long long count) { return static_cast<std::size_t>(count) * element; };
    right = device_rule(call, "x", a.x, bytes(a.d_in));
    right = device_rule(call, "w1", a.w1, bytes(static_cast<long long>(a.rank) * a.ld1)) && right;
    right = device_rule(call, "w2", a.w2, bytes(static_cast<long long>(a.d_out) * a.ld2)) && right;
    right = (a.bias == nullptr || device_rule(call, "bias", a.bias, bytes(a.d_out))) && right;
    right = device_rule(call, "y", a.y, bytes(a.d_out)) && right;
    right = device_rule(call, "middle", a.middle, sizeof(float) * static_cast<std::size_t>(a.rank)) && right;
    right = device_rule(call, "barrier", a.barrier, 8) && right;
    if (!right) return cudaErrorIllegalAddress;
    a.x = alias(a.x);
    a.w1 = alias(a.w1);
    a.w2 = alias(a.w2);
    a.bias = alias(a.bias);
    a.y = alias(a.y);
    a.middle = static_cast<float*>(alias(a.middle));
    a.barrier = static_cast<unsigned long long*>(alias(a.barrier));
    enqueue(config->stream, [a, name, blocks = config->gridDim.x, threads = config->blockDim.x,
                             shared = config->dynamicSmemBytes] { run_fused_row(name, a, blocks, threads, shared); });
    return cudaSuccess;
}

}  // extern "C"
