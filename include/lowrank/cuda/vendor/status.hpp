// lowrank - the CUDA backend's error, and how a vendor's status becomes one.
// SPDX-License-Identifier: MIT
//
//     catch (const lowrank::cuda::DeviceError& e) { e.call(); e.status(); e.what(); }
//     // "cudaMalloc failed with cudaErrorMemoryAllocation (2): out of memory; while allocating 26214400 bytes"
#pragma once

#include <lowrank/error.hpp>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace lowrank::cuda {

/// A call of the CUDA runtime, cuBLAS, cuBLASLt or cuSOLVER failed.
class DeviceError : public BackendError {
public:
    DeviceError(std::string call, int status, const std::string& message)
        : BackendError(message), call_(std::move(call)), status_(status) {}

    [[nodiscard]] const std::string& call() const { return call_; }  ///< the function's name
    [[nodiscard]] int status() const { return status_; }             ///< as its library numbers them

private:
    std::string call_;
    int status_;
};

namespace vendor {

inline std::string status_text(cudaError_t status) {
    return std::string(cudaGetErrorName(status)) + " (" + std::to_string(status) + "): " + cudaGetErrorString(status);
}
inline std::string status_text(cublasStatus_t status) {
    return std::string(cublasGetStatusName(status)) + " (" + std::to_string(status) + ")";
}
/// cuSOLVER has no function that names its statuses.
inline std::string status_text(cusolverStatus_t status) {
    const auto name = [status] {
        switch (status) {
            case CUSOLVER_STATUS_NOT_INITIALIZED: return "CUSOLVER_STATUS_NOT_INITIALIZED";
            case CUSOLVER_STATUS_ALLOC_FAILED: return "CUSOLVER_STATUS_ALLOC_FAILED";
            case CUSOLVER_STATUS_INVALID_VALUE: return "CUSOLVER_STATUS_INVALID_VALUE";
            case CUSOLVER_STATUS_ARCH_MISMATCH: return "CUSOLVER_STATUS_ARCH_MISMATCH";
            case CUSOLVER_STATUS_EXECUTION_FAILED: return "CUSOLVER_STATUS_EXECUTION_FAILED";
            case CUSOLVER_STATUS_INTERNAL_ERROR: return "CUSOLVER_STATUS_INTERNAL_ERROR";
            case CUSOLVER_STATUS_NOT_SUPPORTED: return "CUSOLVER_STATUS_NOT_SUPPORTED";
            default: return "a status of cuSOLVER";
        }
    }();
    return std::string(name) + " (" + std::to_string(status) + ")";
}

/// Throws DeviceError unless `status` is a success, which is 0 in all four libraries. `doing` says to what: "the weight
/// q_proj, 2560 x 2560". Builds no text on success.
template <class Status>
void check(Status status, const char* call, std::string_view doing) {
    if (static_cast<int>(status) == 0) return;
    // The runtime keeps its last error; what is thrown here shall not be found again by the host engine.
    if constexpr (std::is_same_v<Status, cudaError_t>) static_cast<void>(cudaGetLastError());
    std::string message = std::string(call) + " failed with " + status_text(status);
    if (!doing.empty()) message.append("; while ").append(doing);
    throw DeviceError(call, static_cast<int>(status), message);
}

/// A size for an interface of 32 bits. Throws ShapeError if it does not fit.
inline int narrow(std::int64_t size, const char* call) {
    if (size < 0 || size > std::numeric_limits<int>::max()) {
        throw ShapeError(std::string(call) + " takes sizes up to 2147483647, not " + std::to_string(size));
    }
    return static_cast<int>(size);
}

/// Owns a vendor's object, or borrows the host engine's. Destroying never throws.
template <class Raw, auto Destroy>
class Handle {
public:
    Handle() = default;
    static Handle own(Raw raw) { return Handle(raw, true); }
    static Handle borrow(Raw raw) { return Handle(raw, false); }

    Handle(Handle&& other) noexcept
        : raw_(std::exchange(other.raw_, Raw{})), owned_(std::exchange(other.owned_, false)) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(raw_, other.raw_);
        std::swap(owned_, other.owned_);
        return *this;
    }
    ~Handle() {
        if (owned_) static_cast<void>(Destroy(raw_));
    }

    [[nodiscard]] Raw get() const { return raw_; }

private:
    Handle(Raw raw, bool owned) : raw_(raw), owned_(owned) {}

    Raw raw_{};
    bool owned_ = false;
};

}  // namespace vendor
}  // namespace lowrank::cuda
