// lowrank - typed wrappers of cuSOLVER's dense routines, column-major. Each throws DeviceError on failure.
// SPDX-License-Identifier: MIT
//
// A routine's `info` is written to device memory in the order of the stream: the caller reads it back.
#pragma once

#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/vendor/status.hpp>

#include <cusolverDn.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace lowrank::cuda::vendor {

using Solver = Handle<cusolverDnHandle_t, cusolverDnDestroy>;
using SolverParameters = Handle<cusolverDnParams_t, cusolverDnDestroyParams>;
using JacobiParameters = Handle<gesvdjInfo_t, cusolverDnDestroyGesvdjInfo>;

inline Solver make_solver(cudaStream_t stream) {
    cusolverDnHandle_t handle = nullptr;
    check(cusolverDnCreate(&handle), "cusolverDnCreate", "starting cuSOLVER");
    Solver solver = Solver::own(handle);
    check(cusolverDnSetStream(handle, stream), "cusolverDnSetStream", "starting cuSOLVER");
    // Also the default; said because the library promises the same factors every time.
    check(cusolverDnSetDeterministicMode(handle, CUSOLVER_DETERMINISTIC_RESULTS), "cusolverDnSetDeterministicMode",
          "starting cuSOLVER");
    return solver;
}

/// The host engine's handle, as it is: it must be on `stream`.
inline Solver borrow_solver(cusolverDnHandle_t handle, cudaStream_t stream) {
    cudaStream_t its_stream = nullptr;
    check(cusolverDnGetStream(handle, &its_stream), "cusolverDnGetStream", "borrowing a cuSOLVER handle");
    if (its_stream != stream) throw ValueError("the borrowed cuSOLVER handle is not on the context's stream");
    return Solver::borrow(handle);
}

inline SolverParameters make_solver_parameters() {
    cusolverDnParams_t parameters = nullptr;
    check(cusolverDnCreateParams(&parameters), "cusolverDnCreateParams", "starting cuSOLVER");
    return SolverParameters::own(parameters);
}

inline JacobiParameters make_jacobi_parameters() {
    gesvdjInfo_t parameters = nullptr;
    check(cusolverDnCreateGesvdjInfo(&parameters), "cusolverDnCreateGesvdjInfo", "starting cuSOLVER");
    return JacobiParameters::own(parameters);
}

struct SolverWorkspace {
    std::size_t device = 0;
    std::size_t host = 0;
};

/// A (m x n, m >= n, overwritten) = U diag(s) V^T, thin: U m x n, V or V^T n x n, s descending.
template <ComputeScalar C>
struct SvdProblem {
    std::int64_t m = 0;
    std::int64_t n = 0;
    C* a = nullptr;
    C* s = nullptr;
    C* u = nullptr;
    C* v = nullptr;  ///< V, or V^T from `gesvd`; leading dimension n
    int* info = nullptr;
};

/// Polar decomposition and a symmetric eigensolver (Higham, Papadimitriou 1994). Gives V.
template <ComputeScalar C>
SolverWorkspace gesvdp_workspace(cusolverDnHandle_t solver, cusolverDnParams_t parameters, const SvdProblem<C>& p,
                                 std::string_view doing) {
    SolverWorkspace bytes;
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXgesvdp_bufferSize(solver, parameters, CUSOLVER_EIG_MODE_VECTOR, 1, p.m, p.n, type, p.a, p.m, type,
                                       p.s, type, p.u, p.m, type, p.v, p.n, type, &bytes.device, &bytes.host),
          "cusolverDnXgesvdp_bufferSize", doing);
    return bytes;
}
/// `perturbation` is by how much the singular values may be off; written when the stream is waited for.
template <ComputeScalar C>
void gesvdp(cusolverDnHandle_t solver, cusolverDnParams_t parameters, const SvdProblem<C>& p, void* device,
            std::vector<std::byte>& host, const SolverWorkspace& bytes, double* perturbation, std::string_view doing) {
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXgesvdp(solver, parameters, CUSOLVER_EIG_MODE_VECTOR, 1, p.m, p.n, type, p.a, p.m, type, p.s, type,
                            p.u, p.m, type, p.v, p.n, type, device, bytes.device, host.data(), bytes.host, p.info,
                            perturbation),
          "cusolverDnXgesvdp", doing);
}

/// One-sided Jacobi. Gives V. Counts its workspace in elements of 32 bits, so it refuses what is too large.
template <ComputeScalar C>
int gesvdj_workspace(cusolverDnHandle_t solver, gesvdjInfo_t parameters, const SvdProblem<C>& p,
                     std::string_view doing) {
    int elements = 0;
    const int m = narrow(p.m, "cusolverDn<T>gesvdj");
    const int n = narrow(p.n, "cusolverDn<T>gesvdj");
    if constexpr (std::is_same_v<C, float>) {
        check(cusolverDnSgesvdj_bufferSize(solver, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, p.a, m, p.s, p.u, m, p.v, n,
                                           &elements, parameters),
              "cusolverDnSgesvdj_bufferSize", doing);
    } else {
        check(cusolverDnDgesvdj_bufferSize(solver, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, p.a, m, p.s, p.u, m, p.v, n,
                                           &elements, parameters),
              "cusolverDnDgesvdj_bufferSize", doing);
    }
    return elements;
}
template <ComputeScalar C>
void gesvdj(cusolverDnHandle_t solver, gesvdjInfo_t parameters, const SvdProblem<C>& p, C* device, int elements,
            std::string_view doing) {
    const int m = narrow(p.m, "cusolverDn<T>gesvdj");
    const int n = narrow(p.n, "cusolverDn<T>gesvdj");
    if constexpr (std::is_same_v<C, float>) {
        check(cusolverDnSgesvdj(solver, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, p.a, m, p.s, p.u, m, p.v, n, device,
                                elements, p.info, parameters),
              "cusolverDnSgesvdj", doing);
    } else {
        check(cusolverDnDgesvdj(solver, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, p.a, m, p.s, p.u, m, p.v, n, device,
                                elements, p.info, parameters),
              "cusolverDnDgesvdj", doing);
    }
}

/// Bidiagonalisation and QR. Gives V^T.
template <ComputeScalar C>
SolverWorkspace gesvd_workspace(cusolverDnHandle_t solver, cusolverDnParams_t parameters, const SvdProblem<C>& p,
                                std::string_view doing) {
    SolverWorkspace bytes;
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXgesvd_bufferSize(solver, parameters, 'S', 'S', p.m, p.n, type, p.a, p.m, type, p.s, type, p.u, p.m,
                                      type, p.v, p.n, type, &bytes.device, &bytes.host),
          "cusolverDnXgesvd_bufferSize", doing);
    return bytes;
}
template <ComputeScalar C>
void gesvd(cusolverDnHandle_t solver, cusolverDnParams_t parameters, const SvdProblem<C>& p, void* device,
           std::vector<std::byte>& host, const SolverWorkspace& bytes, std::string_view doing) {
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXgesvd(solver, parameters, 'S', 'S', p.m, p.n, type, p.a, p.m, type, p.s, type, p.u, p.m, type, p.v,
                           p.n, type, device, bytes.device, host.data(), bytes.host, p.info),
          "cusolverDnXgesvd", doing);
}

/// A (n x n) := R, upper triangular, with A = R^T R of its upper triangle. info > 0: not positive definite.
template <ComputeScalar C>
SolverWorkspace potrf_workspace(cusolverDnHandle_t solver, cusolverDnParams_t parameters, std::int64_t n,
                                std::string_view doing) {
    SolverWorkspace bytes;
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXpotrf_bufferSize(solver, parameters, CUBLAS_FILL_MODE_UPPER, n, type, nullptr, n, type,
                                      &bytes.device, &bytes.host),
          "cusolverDnXpotrf_bufferSize", doing);
    return bytes;
}
template <ComputeScalar C>
void potrf(cusolverDnHandle_t solver, cusolverDnParams_t parameters, std::int64_t n, C* a, void* device,
           std::vector<std::byte>& host, const SolverWorkspace& bytes, int* info, std::string_view doing) {
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXpotrf(solver, parameters, CUBLAS_FILL_MODE_UPPER, n, type, a, n, type, device, bytes.device,
                           host.data(), bytes.host, info),
          "cusolverDnXpotrf", doing);
}

/// w, ascending, of the symmetric A (n x n); with `vectors` A becomes the eigenvectors, column by column.
template <ComputeScalar C>
SolverWorkspace syevd_workspace(cusolverDnHandle_t solver, cusolverDnParams_t parameters, std::int64_t n,
                                std::string_view doing) {
    SolverWorkspace bytes;
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXsyevd_bufferSize(solver, parameters, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER, n, type,
                                      nullptr, n, type, nullptr, type, &bytes.device, &bytes.host),
          "cusolverDnXsyevd_bufferSize", doing);
    return bytes;
}
template <ComputeScalar C>
void syevd(cusolverDnHandle_t solver, cusolverDnParams_t parameters, bool vectors, std::int64_t n, C* a, C* w,
           void* device, std::vector<std::byte>& host, const SolverWorkspace& bytes, int* info,
           std::string_view doing) {
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXsyevd(solver, parameters, vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR,
                           CUBLAS_FILL_MODE_UPPER, n, type, a, n, type, w, type, device, bytes.device, host.data(),
                           bytes.host, info),
          "cusolverDnXsyevd", doing);
}

/// Householder QR of A (m x n, m >= n): A := Q, m x n, in two steps with the same workspace rules as above.
template <ComputeScalar C>
SolverWorkspace geqrf_workspace(cusolverDnHandle_t solver, cusolverDnParams_t parameters, std::int64_t m,
                                std::int64_t n, std::string_view doing) {
    SolverWorkspace bytes;
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXgeqrf_bufferSize(solver, parameters, m, n, type, nullptr, m, type, nullptr, type, &bytes.device,
                                      &bytes.host),
          "cusolverDnXgeqrf_bufferSize", doing);
    return bytes;
}
template <ComputeScalar C>
void geqrf(cusolverDnHandle_t solver, cusolverDnParams_t parameters, std::int64_t m, std::int64_t n, C* a, C* tau,
           void* device, std::vector<std::byte>& host, const SolverWorkspace& bytes, int* info,
           std::string_view doing) {
    constexpr cudaDataType type = data_type<C>();
    check(cusolverDnXgeqrf(solver, parameters, m, n, type, a, m, type, tau, type, device, bytes.device, host.data(),
                           bytes.host, info),
          "cusolverDnXgeqrf", doing);
}
template <ComputeScalar C>
int orgqr_workspace(cusolverDnHandle_t solver, std::int64_t m, std::int64_t n, const C* a, const C* tau,
                    std::string_view doing) {
    int elements = 0;
    const int rows = narrow(m, "cusolverDn<T>orgqr");
    const int cols = narrow(n, "cusolverDn<T>orgqr");
    if constexpr (std::is_same_v<C, float>) {
        check(cusolverDnSorgqr_bufferSize(solver, rows, cols, cols, a, rows, tau, &elements),
              "cusolverDnSorgqr_bufferSize", doing);
    } else {
        check(cusolverDnDorgqr_bufferSize(solver, rows, cols, cols, a, rows, tau, &elements),
              "cusolverDnDorgqr_bufferSize", doing);
    }
    return elements;
}
template <ComputeScalar C>
void orgqr(cusolverDnHandle_t solver, std::int64_t m, std::int64_t n, C* a, const C* tau, C* device, int elements,
           int* info, std::string_view doing) {
    const int rows = narrow(m, "cusolverDn<T>orgqr");
    const int cols = narrow(n, "cusolverDn<T>orgqr");
    if constexpr (std::is_same_v<C, float>) {
        check(cusolverDnSorgqr(solver, rows, cols, cols, a, rows, tau, device, elements, info), "cusolverDnSorgqr",
              doing);
    } else {
        check(cusolverDnDorgqr(solver, rows, cols, cols, a, rows, tau, device, elements, info), "cusolverDnDorgqr",
              doing);
    }
}

}  // namespace lowrank::cuda::vendor
