#include "rules_test.hpp"

#include <cmath>
#include <cstdint>

using test::check_refused;
using test::RawDevice;

namespace {

cublasStatus_t gemm(const RawDevice& d, std::int64_t m, std::int64_t n, std::int64_t k, const void* a, std::int64_t lda,
                    const void* b, std::int64_t ldb, void* c, std::int64_t ldc, cudaDataType_t type = CUDA_R_32F,
                    cudaDataType_t out = CUDA_R_32F, cublasComputeType_t compute = CUBLAS_COMPUTE_32F) {
    return cublasGemmEx_64(d.blas, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &d.one, a, type, lda, b, type, ldb, &d.zero, c,
                           out, ldc, compute, CUBLAS_GEMM_DEFAULT);
}

}  // namespace

TEST_CASE("A product is computed when the stream is waited for, and does not read C if beta is 0", "[emulation]") {
    RawDevice d;
    for (int i = 0; i < 8; ++i) d.host[i] = static_cast<float>(i + 1);
    CHECK(cudaMemcpyAsync(d.device, d.host, 32, cudaMemcpyDefault, d.stream) == cudaSuccess);
    // [1 3; 2 4] [5 7; 6 8] = [23 31; 34 46]
    CHECK(gemm(d, 2, 2, 2, d.device, 2, d.device + 4, 2, d.device + 8, 2) == CUBLAS_STATUS_SUCCESS);
    CHECK(cudaMemcpyAsync(d.host, d.device + 8, 16, cudaMemcpyDefault, d.stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(d.stream) == cudaSuccess);
    CHECK(d.host[0] == 23);
    CHECK(d.host[1] == 34);
    CHECK(d.host[2] == 31);
    CHECK(d.host[3] == 46);
}

TEST_CASE("Wrong calls of cuBLAS are refused", "[emulation]") {
    RawDevice d;
    const auto dead = reinterpret_cast<cublasHandle_t>(&d);
    const auto count = static_cast<std::int64_t>(RawDevice::kCount);
    float* x = d.device;
    check_refused(cublasSetStream(dead, d.stream), "the handle is not alive");
    check_refused(cublasSetStream(d.blas, reinterpret_cast<cudaStream_t>(&d)), "the stream is not alive");
    check_refused(cublasDestroy(dead), "the handle is not alive");
    check_refused(gemm(d, 4, 2, 2, x, 3, x, 2, x + 64, 4), "the leading dimension of A, 3, is below its rows, 4");
    check_refused(gemm(d, 4, 2, 2, x, 4, x, 1, x + 64, 4), "the leading dimension of B");
    check_refused(gemm(d, 4, 2, 2, x, 4, x, 2, x + 64, 2), "the leading dimension of C");
    check_refused(gemm(d, -1, 2, 2, x, 4, x, 2, x + 64, 4), "has a negative size");
    check_refused(gemm(d, 4, 2, 2, d.host, 4, x, 2, x + 64, 4), "A is not 32 bytes of device memory");
    check_refused(gemm(d, 4, 2, 2, x, 4, x, 2, d.host, 4), "C is not 32 bytes of device memory");
    check_refused(gemm(d, count, 1, 1, x + 1, count, x, 1, x, count), "A is not 16384 bytes of device memory");
    check_refused(gemm(d, 4, 2, 2, x, 4, x, 2, x + 64, 4, CUDA_R_32F, CUDA_R_64F), "combination of types");
    check_refused(gemm(d, 4, 2, 2, x, 4, x, 2, x + 64, 4, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_64F),
                  "combination of types");
    check_refused(cublasSgeam_64(d.blas, CUBLAS_OP_T, CUBLAS_OP_N, 4, 2, &d.one, x, 2, &d.zero, x, 4, x, 4),
                  "in place, A must lie as C does");
    check_refused(cublasSgeam_64(d.blas, CUBLAS_OP_N, CUBLAS_OP_N, 4, 2, &d.one, x, 3, &d.zero, x + 64, 4, x + 64, 4),
                  "the leading dimension of A");
    check_refused(cublasSgeam_64(d.blas, CUBLAS_OP_N, CUBLAS_OP_N, 4, 2, &d.one, x, 4, &d.one, d.host, 4, x + 64, 4),
                  "B is not 32 bytes");
    check_refused(cublasSdgmm_64(d.blas, CUBLAS_SIDE_RIGHT, 4, 2, x, 8, x + 64, 1, x, 4), "in place, A must lie");
    check_refused(cublasSdgmm_64(d.blas, CUBLAS_SIDE_RIGHT, 4, 2, x, 4, d.host, 1, x, 4), "x is not 8 bytes");
    check_refused(cublasSscal_64(d.blas, 4, &d.one, d.host, 1), "x is not 16 bytes of device memory");
    check_refused(cublasSnrm2_64(d.blas, count + 1, x, 1, d.host), "x is not");
    check_refused(cublasSnrm2_64(d.blas, 4, x, 1, x + 8), "the result must be in host memory");
    check_refused(cublasStrsm_64(d.blas, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT,
                                 4, 3, &d.one, x, 2, x + 64, 4),
                  "the leading dimension of A, 2, is below its rows, 3");
}

namespace {

/// A product of 8 x 4 by 4 x 2 in float with a bias, right in every respect, until a test changes something.
struct Product {
    explicit Product(RawDevice& device) : d(device) {
        REQUIRE(cublasLtMatmulDescInit(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
        set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
        bias(d.device + 256);
        layout(a, 8, 4, 8);
        layout(b, 4, 2, 4);
        layout(out, 8, 2, 8);
        REQUIRE(cublasLtMatmulPreferenceInit(&preference) == CUBLAS_STATUS_SUCCESS);
        const std::uint64_t most = 1 << 20;
        REQUIRE(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, 8) ==
                CUBLAS_STATUS_SUCCESS);
        for (const auto which :
             {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
            const std::uint32_t alignment = 16;
            REQUIRE(cublasLtMatmulPreferenceSetAttribute(&preference, which, &alignment, 4) == CUBLAS_STATUS_SUCCESS);
        }
        REQUIRE(find() == CUBLAS_STATUS_SUCCESS);
        REQUIRE(cudaMalloc(&workspace, found.workspaceSize) == cudaSuccess);
    }
    Product(const Product&) = delete;
    Product& operator=(const Product&) = delete;
    ~Product() { CHECK(cudaFree(workspace) == cudaSuccess); }

    void set(cublasLtMatmulDescAttributes_t which, int value) {
        REQUIRE(cublasLtMatmulDescSetAttribute(&description, which, &value, 4) == CUBLAS_STATUS_SUCCESS);
    }
    void bias(const float* where) {
        REQUIRE(cublasLtMatmulDescSetAttribute(&description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &where,
                                               sizeof(where)) == CUBLAS_STATUS_SUCCESS);
    }
    static void layout(cublasLtMatrixLayoutOpaque_t& x, std::uint64_t rows, std::uint64_t cols, std::int64_t ld,
                       cudaDataType_t type = CUDA_R_32F) {
        REQUIRE(cublasLtMatrixLayoutInit(&x, type, rows, cols, ld) == CUBLAS_STATUS_SUCCESS);
    }
    cublasStatus_t find() {
        int count = 0;
        return cublasLtMatmulAlgoGetHeuristic(d.blas_lt, &description, &a, &b, &out, &out, &preference, 1, &found,
                                              &count);
    }
    cublasStatus_t run() {
        return cublasLtMatmul(d.blas_lt, &description, &d.one, left, &a, d.device + 64, &b, &d.zero, result, &out,
                              result, &out, algorithm, workspace_used ? *workspace_used : workspace, workspace_bytes,
                              d.stream);
    }

    RawDevice& d;
    cublasLtMatmulDescOpaque_t description{};
    cublasLtMatrixLayoutOpaque_t a{};
    cublasLtMatrixLayoutOpaque_t b{};
    cublasLtMatrixLayoutOpaque_t out{};
    cublasLtMatmulPreferenceOpaque_t preference{};
    cublasLtMatmulHeuristicResult_t found{};
    const cublasLtMatmulAlgo_t* algorithm = &found.algo;
    const float* left = d.device;
    float* result = d.device + 128;
    void* workspace = nullptr;
    void** workspace_used = nullptr;
    std::size_t workspace_bytes = 4096;
};

}  // namespace

TEST_CASE("Wrong calls of cuBLASLt are refused", "[emulation]") {
    RawDevice d;
    Product p(d);
    CHECK(p.run() == CUBLAS_STATUS_SUCCESS);
    SECTION("descriptors") {
        int wrong = 0;
        check_refused(cublasLtMatmulDescSetAttribute(&p.description, CUBLASLT_MATMUL_DESC_EPILOGUE, &wrong, 2),
                      "a value of the wrong size");
        check_refused(
            cublasLtMatmulPreferenceSetAttribute(&p.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &wrong, 4),
            "a value of the wrong size");
        p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF);
        check_refused(p.run(), "the bias must be of D's type");
        p.description = {};
        check_refused(p.find(), "a descriptor is not initialised");
    }
    SECTION("handles") {
        check_refused(cublasLtDestroy(reinterpret_cast<cublasLtHandle_t>(&d)), "the handle is not alive");
    }
    SECTION("shapes and types") {
        Product::layout(p.b, 5, 2, 5);
        check_refused(p.run(), "the shapes do not go together");
        Product::layout(p.b, 4, 2, 3);
        check_refused(p.run(), "a leading dimension below the rows");
        Product::layout(p.b, 4, 2, 4, CUDA_R_16BF);
        check_refused(p.run(), "combination of types");
    }
    SECTION("the algorithm") {
        p.algorithm = nullptr;
        check_refused(p.run(), "the algorithm must be found before");
        p.algorithm = &p.found.algo;
        Product::layout(p.b, 4, 3, 4);
        Product::layout(p.out, 8, 3, 8);
        check_refused(p.run(), "the algorithm was found for another product");
        Product::layout(p.b, 4, 1, 4);  // fewer columns than planned are fine
        Product::layout(p.out, 8, 1, 8);
        CHECK(p.run() == CUBLAS_STATUS_SUCCESS);
        emulation::set_no_algorithms();
        CHECK(p.find() == CUBLAS_STATUS_NOT_SUPPORTED);
    }
    SECTION("pointers") {
        p.left = d.device + 1;
        check_refused(p.run(), "aligned less than the algorithm was told");
        p.left = d.host;
        check_refused(p.run(), "A is not 128 bytes of device memory");
        p.left = d.device;
        p.result = d.device + RawDevice::kCount - 8;
        check_refused(p.run(), "D is not 64 bytes of device memory");
    }
    SECTION("the bias") {
        p.bias(d.device + 257);
        check_refused(p.run(), "the bias is not aligned to 16 bytes");
        p.bias(nullptr);
        check_refused(p.run(), "bias is not 32 bytes of device memory");
    }
    SECTION("the workspace") {
        p.workspace_bytes = 4095;
        check_refused(p.run(), "below what the heuristics said");
        p.workspace_bytes = 4096;
        void* other = d.device + 4;
        p.workspace_used = &other;
        check_refused(p.run(), "the workspace is not aligned to 256 bytes");
        other = d.device + 3200;
        check_refused(p.run(), "workspace is not 4096 bytes of device memory");
    }
}
