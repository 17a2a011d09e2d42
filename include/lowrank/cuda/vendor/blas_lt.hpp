// lowrank - typed wrappers of cuBLASLt: a product that is planned once and then launched without a search.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/vendor/status.hpp>

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lowrank::cuda::vendor {

using BlasLt = Handle<cublasLtHandle_t, cublasLtDestroy>;

inline BlasLt make_blas_lt() {
    cublasLtHandle_t handle = nullptr;
    check(cublasLtCreate(&handle), "cublasLtCreate", "starting cuBLASLt");
    return BlasLt::own(handle);
}

/// cuBLAS asks for workspaces at multiples of this; cudaMalloc's memory is.
inline constexpr std::size_t kWorkspaceAlignment = 256;

/// D (m x n) = A^T B + a bias along m, with A k x m and B k x n, column-major.
struct ProductKey {
    std::int64_t m = 0;
    std::int64_t n = 0;  ///< at most so many columns
    std::int64_t k = 0;
    cudaDataType_t in = CUDA_R_32F;
    cudaDataType_t out = CUDA_R_32F;
    bool bias = false;
    bool aligned = false;  ///< every pointer and leading dimension is a multiple of 16 bytes

    friend bool operator==(const ProductKey&, const ProductKey&) = default;
};

/// The arguments of one launch.
struct ProductArguments {
    const void* a = nullptr;
    std::int64_t lda = 0;
    const void* b = nullptr;
    std::int64_t ldb = 0;
    void* d = nullptr;
    std::int64_t ldd = 0;
    const void* bias = nullptr;
};

/// The descriptor and the algorithm for one ProductKey. Not copied: the descriptor is initialised in place.
class ProductPlan {
public:
    /// Asks cuBLASLt for its algorithm. `max_workspace` bounds the scratch memory that it may want. Throws DeviceError,
    /// or BackendError if cuBLASLt has no algorithm for the product.
    ProductPlan(cublasLtHandle_t handle, const ProductKey& key, std::size_t max_workspace, std::string_view doing)
        : key_(key) {
        const cublasComputeType_t compute = key.in == CUDA_R_64F ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
        const cudaDataType_t scale = key.in == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F;
        check(cublasLtMatmulDescInit(&description_, compute, scale), "cublasLtMatmulDescInit", doing);
        set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T, doing);
        if (key.bias) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS, doing);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, key.out, doing);
        }
        cublasLtMatmulPreferenceOpaque_t preference;
        check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit", doing);
        prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{max_workspace}, doing);
        // The narrowest promise that ever holds: an element, or 16 bytes, which the widest loads take.
        const std::uint32_t in_alignment = key.aligned ? 16 : element_bytes(key.in);
        const std::uint32_t out_alignment = key.aligned ? 16 : element_bytes(key.out);
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, in_alignment, doing);
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, in_alignment, doing);
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out_alignment, doing);
        prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out_alignment, doing);
        const std::int64_t in_step = key.aligned ? 16 / element_bytes(key.in) : 1;
        const std::int64_t out_step = key.aligned ? 16 / element_bytes(key.out) : 1;
        const auto up = [](std::int64_t size, std::int64_t step) { return (size + step - 1) / step * step; };
        Layouts layouts(key, key.n, up(key.k, in_step), up(key.k, in_step), up(key.m, out_step), doing);
        cublasLtMatmulHeuristicResult_t found{};
        int count = 0;
        const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
            handle, &description_, &layouts.a, &layouts.b, &layouts.d, &layouts.d, &preference, 1, &found, &count);
        if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic", doing);
        if (status == CUBLAS_STATUS_NOT_SUPPORTED || count == 0 || found.state != CUBLAS_STATUS_SUCCESS) {
            throw BackendError("cuBLASLt has no algorithm for " + std::string(doing));
        }
        algorithm_ = found.algo;
        workspace_bytes_ = found.workspaceSize;
    }
    ProductPlan(const ProductPlan&) = delete;
    ProductPlan& operator=(const ProductPlan&) = delete;

    [[nodiscard]] std::size_t workspace_bytes() const { return workspace_bytes_; }

    /// Queues the product of `columns` <= key.n columns. Allocates nothing, waits for nothing.
    void run(cublasLtHandle_t handle, std::int64_t columns, const ProductArguments& arguments, void* workspace,
             cudaStream_t stream, std::string_view doing) {
        if (key_.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, arguments.bias, doing);
        Layouts layouts(key_, columns, arguments.lda, arguments.ldb, arguments.ldd, doing);
        const float one = 1;
        const float zero = 0;
        const double one_double = 1;
        const double zero_double = 0;
        const bool wide = key_.in == CUDA_R_64F;
        const void* alpha = wide ? static_cast<const void*>(&one_double) : &one;
        const void* beta = wide ? static_cast<const void*>(&zero_double) : &zero;
        check(cublasLtMatmul(handle, &description_, alpha, arguments.a, &layouts.a, arguments.b, &layouts.b, beta,
                             arguments.d, &layouts.d, arguments.d, &layouts.d, &algorithm_, workspace, workspace_bytes_,
                             stream),
              "cublasLtMatmul", doing);
    }

    static constexpr std::uint32_t element_bytes(cudaDataType_t type) {
        return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
    }

private:
    /// Descriptors on the stack: initialising one is a few stores.
    struct Layouts {
        Layouts(const ProductKey& key, std::int64_t columns, std::int64_t lda, std::int64_t ldb, std::int64_t ldd,
                std::string_view doing) {
            init(a, key.in, key.k, key.m, lda, doing);
            init(b, key.in, key.k, columns, ldb, doing);
            init(d, key.out, key.m, columns, ldd, doing);
        }
        static void init(cublasLtMatrixLayoutOpaque_t& layout, cudaDataType_t type, std::int64_t rows,
                         std::int64_t cols, std::int64_t leading_dimension, std::string_view doing) {
            check(cublasLtMatrixLayoutInit(&layout, type, static_cast<std::uint64_t>(rows),
                                           static_cast<std::uint64_t>(cols), leading_dimension),
                  "cublasLtMatrixLayoutInit", doing);
        }
        cublasLtMatrixLayoutOpaque_t a{};
        cublasLtMatrixLayoutOpaque_t b{};
        cublasLtMatrixLayoutOpaque_t d{};
    };

    template <class Value>
    void set(cublasLtMatmulDescAttributes_t attribute, const Value& value, std::string_view doing) {
        check(cublasLtMatmulDescSetAttribute(&description_, attribute, &value, sizeof(value)),
              "cublasLtMatmulDescSetAttribute", doing);
    }
    template <class Value>
    static void prefer(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute,
                       const Value& value, std::string_view doing) {
        check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)),
              "cublasLtMatmulPreferenceSetAttribute", doing);
    }

    ProductKey key_;
    cublasLtMatmulDescOpaque_t description_{};
    cublasLtMatmulAlgo_t algorithm_{};
    std::size_t workspace_bytes_ = 0;
};

}  // namespace lowrank::cuda::vendor
