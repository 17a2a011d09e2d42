// Tests of the emulation itself: each wrong call must break the rule that it is meant to break, and be refused.
#pragma once

#include "catch.hpp"
#include "emulation.hpp"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstddef>
#include <string>

namespace test {

/// That `status` is a failure and that the last broken rule's text contains `text`.
template <class Status>
void check_refused(Status status, const std::string& text) {
    CAPTURE(text);
    CHECK(static_cast<int>(status) != 0);
    REQUIRE_FALSE(emulation::violations().empty());
    CHECK(emulation::violations().back().find(text) != std::string::npos);
    emulation::reset();
}

/// Device memory, a stream and the libraries' handles, by plain calls.
struct RawDevice {
    RawDevice() {
        emulation::reset();
        REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
        REQUIRE(cublasCreate(&blas) == CUBLAS_STATUS_SUCCESS);
        REQUIRE(cublasSetStream(blas, stream) == CUBLAS_STATUS_SUCCESS);
        REQUIRE(cublasLtCreate(&blas_lt) == CUBLAS_STATUS_SUCCESS);
        REQUIRE(cusolverDnCreate(&solver) == CUSOLVER_STATUS_SUCCESS);
        REQUIRE(cusolverDnSetStream(solver, stream) == CUSOLVER_STATUS_SUCCESS);
        REQUIRE(cusolverDnCreateParams(&parameters) == CUSOLVER_STATUS_SUCCESS);
        REQUIRE(cusolverDnCreateGesvdjInfo(&jacobi) == CUSOLVER_STATUS_SUCCESS);
        void* memory = nullptr;
        REQUIRE(cudaMalloc(&memory, kCount * sizeof(float)) == cudaSuccess);
        device = static_cast<float*>(memory);
    }
    RawDevice(const RawDevice&) = delete;
    RawDevice& operator=(const RawDevice&) = delete;
    ~RawDevice() {
        CHECK(cudaFree(device) == cudaSuccess);
        CHECK(cusolverDnDestroyGesvdjInfo(jacobi) == CUSOLVER_STATUS_SUCCESS);
        CHECK(cusolverDnDestroyParams(parameters) == CUSOLVER_STATUS_SUCCESS);
        CHECK(cusolverDnDestroy(solver) == CUSOLVER_STATUS_SUCCESS);
        CHECK(cublasLtDestroy(blas_lt) == CUBLAS_STATUS_SUCCESS);
        CHECK(cublasDestroy(blas) == CUBLAS_STATUS_SUCCESS);
        CHECK(cudaStreamDestroy(stream) == cudaSuccess);
        CHECK(emulation::alive() == "");
    }

    static constexpr std::size_t kCount = 4096;
    cudaStream_t stream = nullptr;
    cublasHandle_t blas = nullptr;
    cublasLtHandle_t blas_lt = nullptr;
    cusolverDnHandle_t solver = nullptr;
    cusolverDnParams_t parameters = nullptr;
    gesvdjInfo_t jacobi = nullptr;
    float* device = nullptr;
    float host[kCount] = {};
    float one = 1;
    float zero = 0;
};

}  // namespace test
