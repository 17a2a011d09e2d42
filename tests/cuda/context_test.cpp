#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>

#include "contract/backend.hpp"
#include "device_test.hpp"

#include <cstring>
#include <utility>

using namespace lowrank;

TEST_CASE("Matrices travel between the memory spaces, strided or not", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const Matrix<float> w = contract::gaussian<float>(7, 5, 1);
    const auto device = cuda::to_device(gpu, w);
    const Matrix<float> part = cuda::to_host(gpu, device.view().block(2, 1, 3, 4));
    for (std::int64_t i = 0; i < 3; ++i) {
        for (std::int64_t j = 0; j < 4; ++j) CHECK(part(i, j) == w(i + 2, j + 1));
    }
    Matrix<float, cuda::PinnedSpace> pinned(7, 5);
    cuda::copy(gpu, device.view(), pinned.view());
    gpu.synchronise();
    CHECK(std::memcmp(pinned.data(), w.data(), w.size() * sizeof(float)) == 0);
    pinned.host()(6, 4) = 42;
    const auto back = cuda::to_device(gpu, pinned);
    CHECK(cuda::to_host(gpu, back)(6, 4) == 42);
    Matrix<float, cuda::DeviceSpace> wrong(5, 7);
    CHECK_THROWS_WITH(cuda::copy(gpu, device.view(), wrong.view()),
                      "a matrix of 7 x 5 cannot be copied to one of 5 x 7");
    CHECK_THROWS_AS((Matrix<double, cuda::DeviceSpace>(std::int64_t{1} << 40, std::int64_t{1} << 40)), ShapeError);
}

TEST_CASE("Factors travel with all that is known of them", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    Factors<float> factors;
    factors.w1 = contract::gaussian<float>(6, 2, 1);
    factors.w2 = contract::gaussian<float>(2, 5, 2);
    factors.singular_values = {3, 2};
    factors.relative_error = 0.25;
    factors.excess = 0.001;
    factors.method = Method::fast;
    const Factors<float> back = cuda::to_host(gpu, cuda::to_device(gpu, factors));
    CHECK(std::memcmp(back.w1.data(), factors.w1.data(), factors.w1.size() * sizeof(float)) == 0);
    CHECK(back.singular_values == factors.singular_values);
    CHECK(back.relative_error == 0.25);
    CHECK(back.excess == 0.001);
    CHECK(back.method == Method::fast);
}

TEST_CASE("A context borrows the host engine's stream and handles and leaves them as they were", "[cuda]") {
    const test::CleanDevice clean;
    cudaStream_t stream = nullptr;
    cublasHandle_t blas = nullptr;
    cublasLtHandle_t blas_lt = nullptr;
    cusolverDnHandle_t solver = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cublasCreate(&blas) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtCreate(&blas_lt) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cusolverDnCreate(&solver) == CUSOLVER_STATUS_SUCCESS);
    const auto make = [&] {
        return cuda::Context({.stream = stream, .blas = blas, .blas_lt = blas_lt, .solver = solver});
    };
    CHECK(test::message(make) == "the borrowed cuBLAS handle is not on the context's stream");
    REQUIRE(cublasSetStream(blas, stream) == CUBLAS_STATUS_SUCCESS);
    CHECK(test::message(make) == "the borrowed cuSOLVER handle is not on the context's stream");
    REQUIRE(cusolverDnSetStream(solver, stream) == CUSOLVER_STATUS_SUCCESS);
    REQUIRE(cublasSetPointerMode(blas, CUBLAS_POINTER_MODE_DEVICE) == CUBLAS_STATUS_SUCCESS);
    CHECK(test::message(make).find("host memory is needed") != std::string::npos);
    REQUIRE(cublasSetPointerMode(blas, CUBLAS_POINTER_MODE_HOST) == CUBLAS_STATUS_SUCCESS);
    {
        cuda::Context gpu = make();
        CHECK(gpu.stream() == stream);
        CHECK(gpu.blas() == blas);
        const cuda::Context moved(std::move(gpu));
        CHECK(moved.solver() == solver);
    }
    CHECK(cusolverDnDestroy(solver) == CUSOLVER_STATUS_SUCCESS);
    CHECK(cublasLtDestroy(blas_lt) == CUBLAS_STATUS_SUCCESS);
    CHECK(cublasDestroy(blas) == CUBLAS_STATUS_SUCCESS);
    CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}

#ifndef LOWRANK_TESTS_ON_DEVICE

TEST_CASE("Without a driver, a device or memory a context says what is missing", "[cuda]") {
    const test::CleanDevice clean;
    emulation::set_no_driver();
    try {
        const cuda::Context gpu;
        FAIL("no error");
    } catch (const cuda::DeviceError& error) {
        CHECK(error.call() == "cudaGetDeviceCount");
        CHECK(error.status() == cudaErrorInsufficientDriver);
        CHECK(
            std::string(error.what()) ==
            "cudaGetDeviceCount failed with cudaErrorInsufficientDriver (35): CUDA driver version is insufficient for "
            "CUDA runtime version; while looking for a device");
    }
    CHECK(cudaGetLastError() == cudaSuccess);
    emulation::reset();
    emulation::set_device_memory(0);
    CHECK(test::message([] { const cuda::Context gpu; }).find("no CUDA-capable device") != std::string::npos);
    emulation::reset();
    emulation::set_device_memory(1000);
    cuda::Context gpu;
    CHECK(test::message([&] { Matrix<float, cuda::DeviceSpace>(20, 20); }) ==
          "cudaMalloc failed with cudaErrorMemoryAllocation (2): out of memory; while allocating 1600 bytes of device "
          "memory for a matrix of 20 x 20, of which 1000 of 1000 are free");
}

#endif
