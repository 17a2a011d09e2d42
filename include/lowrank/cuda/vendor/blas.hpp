// lowrank - typed wrappers of cuBLAS, column-major as it is. Scalars are host values. Each throws DeviceError on
// failure. SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/vendor/status.hpp>
#include <lowrank/scalar.hpp>

#include <cublas_v2.h>

#include <cstdint>
#include <string_view>

namespace lowrank::cuda::vendor {

template <Scalar T>
constexpr cudaDataType_t data_type() {
    if constexpr (std::is_same_v<T, double>) return CUDA_R_64F;
    if constexpr (std::is_same_v<T, float>) return CUDA_R_32F;
    if constexpr (std::is_same_v<T, bf16>) return CUDA_R_16BF;
    return CUDA_R_16F;
}

/// Float sums are sums in float: no TF32, no 16-bit splitting.
template <ComputeScalar C>
constexpr cublasComputeType_t compute_type() {
    return std::is_same_v<C, double> ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
}

using Blas = Handle<cublasHandle_t, cublasDestroy_v2>;

inline Blas make_blas(cudaStream_t stream) {
    cublasHandle_t handle = nullptr;
    check(cublasCreate(&handle), "cublasCreate", "starting cuBLAS");
    Blas blas = Blas::own(handle);
    check(cublasSetStream(handle, stream), "cublasSetStream", "starting cuBLAS");
    return blas;
}

/// The host engine's handle, as it is: it must be on `stream` and take scalars from host memory.
inline Blas borrow_blas(cublasHandle_t handle, cudaStream_t stream) {
    cudaStream_t its_stream = nullptr;
    check(cublasGetStream(handle, &its_stream), "cublasGetStream", "borrowing a cuBLAS handle");
    cublasPointerMode_t mode = CUBLAS_POINTER_MODE_HOST;
    check(cublasGetPointerMode(handle, &mode), "cublasGetPointerMode", "borrowing a cuBLAS handle");
    if (its_stream != stream) throw ValueError("the borrowed cuBLAS handle is not on the context's stream");
    if (mode != CUBLAS_POINTER_MODE_HOST) {
        throw ValueError("the borrowed cuBLAS handle takes its scalars from device memory; host memory is needed");
    }
    return Blas::borrow(handle);
}

struct Operand {
    const void* data = nullptr;
    std::int64_t leading_dimension = 0;
    bool transposed = false;

    [[nodiscard]] cublasOperation_t operation() const { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }
};

/// C (m x n) = alpha op(A) op(B) + beta C, with A and B of type T and C of T's compute type.
template <Scalar T>
void gemm(cublasHandle_t blas, std::int64_t m, std::int64_t n, std::int64_t k, compute_t<T> alpha, Operand a, Operand b,
          compute_t<T> beta, compute_t<T>* c, std::int64_t ldc, std::string_view doing) {
    using C = compute_t<T>;
    check(cublasGemmEx_64(blas, a.operation(), b.operation(), m, n, k, &alpha, a.data, data_type<T>(),
                          a.leading_dimension, b.data, data_type<T>(), b.leading_dimension, &beta, c, data_type<C>(),
                          ldc, compute_type<C>(), CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx_64", doing);
}

/// C (m x n) = alpha op(A): a copy, a transpose and a scaling in one.
template <ComputeScalar C>
void copy_scaled(cublasHandle_t blas, std::int64_t m, std::int64_t n, C alpha, Operand a, C* c, std::int64_t ldc,
                 std::string_view doing) {
    const C zero = 0;
    const auto* source = static_cast<const C*>(a.data);
    // With beta = 0 the second operand is not read; in place of it stands the result, as the documentation allows.
    if constexpr (std::is_same_v<C, float>) {
        check(cublasSgeam_64(blas, a.operation(), CUBLAS_OP_N, m, n, &alpha, source, a.leading_dimension, &zero, c, ldc,
                             c, ldc),
              "cublasSgeam_64", doing);
    } else {
        check(cublasDgeam_64(blas, a.operation(), CUBLAS_OP_N, m, n, &alpha, source, a.leading_dimension, &zero, c, ldc,
                             c, ldc),
              "cublasDgeam_64", doing);
    }
}

/// y += alpha x, both m x n and contiguous.
template <ComputeScalar C>
void add_scaled(cublasHandle_t blas, std::int64_t m, std::int64_t n, C alpha, const C* x, C* y,
                std::string_view doing) {
    const C one = 1;
    if constexpr (std::is_same_v<C, float>) {
        check(cublasSgeam_64(blas, CUBLAS_OP_N, CUBLAS_OP_N, m, n, &alpha, x, m, &one, y, m, y, m), "cublasSgeam_64",
              doing);
    } else {
        check(cublasDgeam_64(blas, CUBLAS_OP_N, CUBLAS_OP_N, m, n, &alpha, x, m, &one, y, m, y, m), "cublasDgeam_64",
              doing);
    }
}

/// C (m x n) = A diag(x), x in device memory. C may be A.
template <ComputeScalar C>
void scale_columns(cublasHandle_t blas, std::int64_t m, std::int64_t n, const C* a, std::int64_t lda, const C* x, C* c,
                   std::int64_t ldc, std::string_view doing) {
    if constexpr (std::is_same_v<C, float>) {
        check(cublasSdgmm_64(blas, CUBLAS_SIDE_RIGHT, m, n, a, lda, x, 1, c, ldc), "cublasSdgmm_64", doing);
    } else {
        check(cublasDdgmm_64(blas, CUBLAS_SIDE_RIGHT, m, n, a, lda, x, 1, c, ldc), "cublasDdgmm_64", doing);
    }
}

/// x *= alpha.
template <ComputeScalar C>
void scale(cublasHandle_t blas, std::int64_t count, C alpha, C* x, std::string_view doing) {
    if constexpr (std::is_same_v<C, float>) {
        check(cublasSscal_64(blas, count, &alpha, x, 1), "cublasSscal_64", doing);
    } else {
        check(cublasDscal_64(blas, count, &alpha, x, 1), "cublasDscal_64", doing);
    }
}

/// Where the largest |x_i| lies, counted from 0. Waits for the stream.
template <ComputeScalar C>
std::int64_t largest(cublasHandle_t blas, std::int64_t count, const C* x, std::string_view doing) {
    std::int64_t index = 0;
    if constexpr (std::is_same_v<C, float>) {
        check(cublasIsamax_64(blas, count, x, 1, &index), "cublasIsamax_64", doing);
    } else {
        check(cublasIdamax_64(blas, count, x, 1, &index), "cublasIdamax_64", doing);
    }
    return index - 1;  // Fortran counts from 1
}

/// ||x||_2. Waits for the stream.
template <ComputeScalar C>
C norm(cublasHandle_t blas, std::int64_t count, const C* x, std::string_view doing) {
    C result = 0;
    if constexpr (std::is_same_v<C, float>) {
        check(cublasSnrm2_64(blas, count, x, 1, &result), "cublasSnrm2_64", doing);
    } else {
        check(cublasDnrm2_64(blas, count, x, 1, &result), "cublasDnrm2_64", doing);
    }
    return result;
}

/// B (m x n) := B R^-1, R upper triangular n x n.
template <ComputeScalar C>
void solve_upper_right(cublasHandle_t blas, std::int64_t m, std::int64_t n, const C* r, std::int64_t ldr, C* b,
                       std::int64_t ldb, std::string_view doing) {
    const C one = 1;
    if constexpr (std::is_same_v<C, float>) {
        check(cublasStrsm_64(blas, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, m, n,
                             &one, r, ldr, b, ldb),
              "cublasStrsm_64", doing);
    } else {
        check(cublasDtrsm_64(blas, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, m, n,
                             &one, r, ldr, b, ldb),
              "cublasDtrsm_64", doing);
    }
}

}  // namespace lowrank::cuda::vendor
