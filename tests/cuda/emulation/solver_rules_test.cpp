#include "rules_test.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

using test::check_refused;
using test::RawDevice;

namespace {

/// The SVD of a 6 x 4 matrix by each routine, right in every respect, until a test changes something.
struct Svd {
    explicit Svd(RawDevice& device) : d(device) {
        float values[24] = {};
        for (int i = 0; i < 4; ++i) values[6 * i + i] = static_cast<float>(4 - i);
        REQUIRE(cudaMemcpyAsync(a, values, sizeof(values), cudaMemcpyDefault, d.stream) == cudaSuccess);
        REQUIRE(cudaStreamSynchronize(d.stream) == cudaSuccess);
        REQUIRE(cusolverDnXgesvdp_bufferSize(d.solver, d.parameters, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, kType, a, m,
                                             kType, s, kType, u, m, kType, v, n, kType, &device_bytes,
                                             &host_bytes) == CUSOLVER_STATUS_SUCCESS);
        REQUIRE(cusolverDnSgesvdj_bufferSize(d.solver, CUSOLVER_EIG_MODE_VECTOR, 1, 6, 4, a, 6, s, u, 6, v, 4,
                                             &elements, d.jacobi) == CUSOLVER_STATUS_SUCCESS);
        host.resize(host_bytes);
        host_buffer = host.data();
    }
    cusolverStatus_t gesvdp() {
        return cusolverDnXgesvdp(d.solver, d.parameters, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, kType, a, lda, kType, s,
                                 kType, u, m, kType, v, n, kType, work, device_bytes, host_buffer, host_bytes, info,
                                 perturbation);
    }
    cusolverStatus_t gesvd() {
        return cusolverDnXgesvd(d.solver, d.parameters, 'S', 'S', m, n, kType, a, lda, kType, s, kType, u, lda, kType,
                                v, n, kType, work, device_bytes, host_buffer, host_bytes, info);
    }
    cusolverStatus_t gesvdj() {
        return cusolverDnSgesvdj(d.solver, CUSOLVER_EIG_MODE_VECTOR, 1, static_cast<int>(m), static_cast<int>(n), a,
                                 static_cast<int>(lda), s, u, static_cast<int>(m), v, static_cast<int>(n), work,
                                 elements, info, d.jacobi);
    }

    static constexpr cudaDataType kType = CUDA_R_32F;
    RawDevice& d;
    std::int64_t m = 6;
    std::int64_t n = 4;
    std::int64_t lda = 6;
    float* a = d.device;
    float* u = d.device + 64;
    float* v = d.device + 128;
    float* s = d.device + 192;
    int* info = reinterpret_cast<int*>(d.device + 256);
    float* work = d.device + 1024;
    std::size_t device_bytes = 0;
    std::size_t host_bytes = 0;
    int elements = 0;
    double perturbation_value = 7;
    double* perturbation = &perturbation_value;
    std::vector<std::byte> host;
    void* host_buffer = nullptr;
};

}  // namespace

TEST_CASE("A solver's results come when the stream is waited for, and its input is destroyed", "[emulation]") {
    RawDevice d;
    Svd svd(d);
    emulation::set_perturbation(0.5);
    CHECK(svd.gesvdp() == CUSOLVER_STATUS_SUCCESS);
    CHECK(svd.perturbation_value == 7);
    CHECK(cudaMemcpyAsync(d.host, d.device, sizeof(d.host), cudaMemcpyDefault, d.stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(d.stream) == cudaSuccess);
    CHECK(svd.perturbation_value == 0.5);
    CHECK(std::isnan(d.host[0]));
    CHECK(d.host[192] == 4);
    CHECK(d.host[195] == 1);
}

TEST_CASE("Wrong calls of cuSOLVER are refused", "[emulation]") {
    RawDevice d;
    Svd svd(d);
    SECTION("handles") {
        const auto dead = reinterpret_cast<cusolverDnHandle_t>(&d);
        check_refused(cusolverDnSetStream(dead, d.stream), "the handle is not alive");
        check_refused(cusolverDnSetStream(d.solver, reinterpret_cast<cudaStream_t>(&d)), "the stream is not alive");
        check_refused(cusolverDnDestroyParams(reinterpret_cast<cusolverDnParams_t>(&d)), "the handle is not alive");
        check_refused(cusolverDnDestroyGesvdjInfo(reinterpret_cast<gesvdjInfo_t>(&d)), "the handle is not alive");
    }
    SECTION("shapes") {
        svd.lda = 5;
        check_refused(svd.gesvdp(), "the leading dimension of A, 5, is below its rows, 6");
        check_refused(svd.gesvdj(), "the leading dimension of A");
        check_refused(svd.gesvd(), "the leading dimension of");
        svd.lda = 6;
        svd.m = 3;
        check_refused(svd.gesvd(), "m < n");
    }
    SECTION("workspaces") {
        svd.device_bytes -= 1;
        check_refused(svd.gesvdp(), "a workspace is too small");
        check_refused(svd.gesvd(), "a workspace is too small");
        svd.device_bytes += 1;
        svd.host_bytes -= 1;
        check_refused(svd.gesvdp(), "a workspace is too small");
        svd.host_bytes += 1;
        svd.host_buffer = d.device;
        check_refused(svd.gesvd(), "the host workspace is in device memory");
        svd.elements -= 1;
        check_refused(svd.gesvdj(), "the workspace is too small");
    }
    SECTION("pointers") {
        int info = 0;
        svd.info = &info;
        check_refused(svd.gesvdp(), "info is not 4 bytes of device memory");
        check_refused(svd.gesvdj(), "info is not 4 bytes of device memory");
        svd.info = reinterpret_cast<int*>(d.device + 256);
        svd.perturbation = reinterpret_cast<double*>(d.device);
        check_refused(svd.gesvdp(), "h_err_sigma must be in host memory");
        svd.s = d.host;
        check_refused(svd.gesvd(), "S is not 16 bytes of device memory");
    }
}

namespace {

/// Cholesky, eigenvalues and QR of a matrix with 4 columns.
struct Square {
    explicit Square(RawDevice& device, float diagonal) : d(device) {
        float values[24] = {};
        for (int i = 0; i < 4; ++i) values[m * i + i] = i == 2 ? diagonal : static_cast<float>(4 - i);
        REQUIRE(cudaMemcpyAsync(a, values, sizeof(values), cudaMemcpyDefault, d.stream) == cudaSuccess);
        REQUIRE(cudaStreamSynchronize(d.stream) == cudaSuccess);
    }
    cusolverStatus_t potrf() {
        size(cusolverDnXpotrf_bufferSize(d.solver, d.parameters, CUBLAS_FILL_MODE_UPPER, 4, kType, a, m, kType, &device,
                                         &host));
        return cusolverDnXpotrf(d.solver, d.parameters, CUBLAS_FILL_MODE_UPPER, 4, kType, a, lda, kType, work, device,
                                buffer.data(), host, info);
    }
    cusolverStatus_t syevd() {
        size(cusolverDnXsyevd_bufferSize(d.solver, d.parameters, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER, 4,
                                         kType, a, m, kType, w, kType, &device, &host));
        return cusolverDnXsyevd(d.solver, d.parameters, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER, 4, kType, a,
                                lda, kType, w, kType, work, device, buffer.data(), host, info);
    }
    cusolverStatus_t geqrf() {
        size(cusolverDnXgeqrf_bufferSize(d.solver, d.parameters, m, 4, kType, a, m, kType, w, kType, &device, &host));
        return cusolverDnXgeqrf(d.solver, d.parameters, m, 4, kType, a, lda, kType, w, kType, work, device,
                                buffer.data(), host, info);
    }
    cusolverStatus_t orgqr() {
        int elements = 0;
        REQUIRE(cusolverDnSorgqr_bufferSize(d.solver, m, 4, 4, a, m, w, &elements) == CUSOLVER_STATUS_SUCCESS);
        return cusolverDnSorgqr(d.solver, m, 4, 4, a, static_cast<int>(lda), w, work, elements - shortage, info);
    }
    void size(cusolverStatus_t status) {
        REQUIRE(status == CUSOLVER_STATUS_SUCCESS);
        device -= static_cast<std::size_t>(shortage);
        buffer.resize(host);
    }
    float result(const float* from) {
        float value = 0;
        REQUIRE(cudaMemcpyAsync(&value, from, 4, cudaMemcpyDefault, d.stream) == cudaSuccess);
        REQUIRE(cudaStreamSynchronize(d.stream) == cudaSuccess);
        return value;
    }
    int found() {
        int value = 0;
        REQUIRE(cudaMemcpyAsync(&value, info, 4, cudaMemcpyDefault, d.stream) == cudaSuccess);
        REQUIRE(cudaStreamSynchronize(d.stream) == cudaSuccess);
        return value;
    }

    static constexpr cudaDataType kType = CUDA_R_32F;
    static constexpr int m = 5;
    RawDevice& d;
    std::int64_t lda = m;
    int shortage = 0;
    float* a = d.device;
    float* w = d.device + 64;
    int* info = reinterpret_cast<int*>(d.device + 128);
    float* work = d.device + 1024;
    std::size_t device = 0;
    std::size_t host = 0;
    std::vector<std::byte> buffer;
};

}  // namespace

TEST_CASE("Cholesky, eigenvalues and QR come out as LAPACK lays them out", "[emulation]") {
    RawDevice d;
    SECTION("potrf") {
        Square square(d, 9);
        CHECK(square.potrf() == CUSOLVER_STATUS_SUCCESS);
        CHECK(square.result(square.a) == 2);
        CHECK(square.result(square.a + 12) == 3);
        CHECK(square.found() == 0);
        Square indefinite(d, -1);
        CHECK(indefinite.potrf() == CUSOLVER_STATUS_SUCCESS);
        CHECK(indefinite.found() == 3);
    }
    SECTION("syevd, ascending") {
        Square square(d, -7);
        CHECK(square.syevd() == CUSOLVER_STATUS_SUCCESS);
        CHECK(square.result(square.w) == Approx(-7));
        CHECK(square.result(square.w + 3) == Approx(4));
    }
    SECTION("geqrf, orgqr") {
        Square square(d, 2);
        CHECK(square.geqrf() == CUSOLVER_STATUS_SUCCESS);
        CHECK(std::abs(square.result(square.a)) == Approx(4));
        CHECK(square.orgqr() == CUSOLVER_STATUS_SUCCESS);
        CHECK(std::abs(square.result(square.a)) == Approx(1));
        CHECK(square.result(square.a + 1) == Approx(0).margin(1e-6));
    }
}

TEST_CASE("Wrong calls of Cholesky, eigenvalues and QR are refused", "[emulation]") {
    RawDevice d;
    Square square(d, 1);
    square.lda = 3;
    check_refused(square.potrf(), "the leading dimension of A, 3, is below its rows, 4");
    check_refused(square.syevd(), "the leading dimension of A, 3, is below its rows, 4");
    check_refused(square.geqrf(), "the leading dimension of A, 3, is below its rows, 5");
    check_refused(square.orgqr(), "the leading dimension of A, 3, is below its rows, 5");
    square.lda = 5;
    square.shortage = 1;
    check_refused(square.potrf(), "a workspace is too small");
    check_refused(square.syevd(), "a workspace is too small");
    check_refused(square.geqrf(), "a workspace is too small");
    check_refused(square.orgqr(), "the workspace is too small");
    square.shortage = 0;
    square.w = d.host;
    check_refused(square.syevd(), "W is not 16 bytes of device memory");
    check_refused(square.geqrf(), "tau is not 16 bytes of device memory");
    check_refused(square.orgqr(), "tau is not 16 bytes of device memory");
    square.info = reinterpret_cast<int*>(d.host);
    check_refused(square.potrf(), "info is not 4 bytes of device memory");
    int elements = 0;
    check_refused(cusolverDnSorgqr_bufferSize(d.solver, 3, 4, 4, square.a, 3, d.device, &elements), "m < n");
    std::size_t bytes = 0;
    check_refused(cusolverDnXpotrf_bufferSize(d.solver, d.parameters, CUBLAS_FILL_MODE_UPPER, 4, CUDA_R_32F, square.a,
                                              3, CUDA_R_32F, &bytes, &bytes),
                  "a leading dimension is wrong");
}
