// What the files of the emulated cuSOLVER share: handles and the sizes of workspaces.
#pragma once

#include "kernels.hpp"

#include <cusolverDn.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulation::solver {

inline constexpr const char* kSolver = "cuSOLVER";
inline constexpr const char* kParameters = "parameters of cuSOLVER";
inline constexpr const char* kJacobi = "gesvdj parameters of cuSOLVER";
inline constexpr const char* kWorkspace =
    "cuSOLVER Library: the size of the workspace is what the _bufferSize() function returns";

inline bool handle_rule(Call& call, const void* handle, const char* what = kSolver) {
    return call.rule(is_handle(handle, what), std::string("the handle is not alive: ") + what,
                     "cuSOLVER Library: CUSOLVER_STATUS_NOT_INITIALIZED");
}
inline bool handles_rule(Call& call, cusolverDnHandle_t handle, cusolverDnParams_t parameters) {
    return handle_rule(call, handle) && handle_rule(call, parameters, kParameters);
}
inline cudaStream_t stream_of(cusolverDnHandle_t handle) {
    return reinterpret_cast<HandleObject*>(handle)->stream;
}

// Any numbers do, if they depend on the sizes: a caller that makes its own up is found out.
inline std::size_t device_bytes(std::int64_t m, std::int64_t n, cudaDataType_t type) {
    return static_cast<std::size_t>(m * n + 3 * n + 17) * type_bytes(type);
}
inline std::size_t host_bytes(std::int64_t n) {
    return static_cast<std::size_t>(8 * n + 24);
}

/// What `info` becomes: what the routine found, or what a test wants it to say.
inline void set_info_result(const std::string& name, int* info, int found = 0) {
    const auto injected = state().info.find(name);
    *static_cast<int*>(alias(info)) = injected == state().info.end() ? found : injected->second;
}

}  // namespace emulation::solver
