// Emulated singular value decompositions of cuSOLVER: what they demand of their arguments, and results as they lay them
// out.
#include "factorisations.hpp"
#include "solver.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

using namespace emulation;
using namespace emulation::solver;

namespace {

constexpr const char* kGesvd = "cuSOLVER Library, cusolverDnXgesvd(): gesvd only supports m >= n";
constexpr const char* kGesvdp = "cuSOLVER Library, cusolverDnXgesvdp(): CUSOLVER_STATUS_INVALID_VALUE";
constexpr const char* kGesvdj = "cuSOLVER Library, cusolverDn<t>gesvdj(): CUSOLVER_STATUS_INVALID_VALUE";

/// An SVD of A (m x n), as all three routines have it in common.
struct Svd {
    std::int64_t m;
    std::int64_t n;
    cudaDataType_t type;
    void* a;
    std::int64_t lda;
    void* s;
    void* u;
    std::int64_t ldu;
    void* v;
    std::int64_t ldv;
    int* info;
};

bool svd_rule(Call& call, const Svd& p, const char* source) {
    bool right = operand_rule(call, "A", {p.a, p.type, p.m, p.n, p.lda}, source);
    right = operand_rule(call, "U", {p.u, p.type, p.m, std::min(p.m, p.n), p.ldu}, source) && right;
    right = operand_rule(call, "V", {p.v, p.type, p.n, p.n, p.ldv}, source) && right;
    right = device_rule(call, "S", p.s, static_cast<std::size_t>(std::min(p.m, p.n)) * type_bytes(p.type)) && right;
    return device_rule(call, "info", p.info, sizeof(int)) && right;
}

/// Queues the work. A is destroyed, as the documentation says; without convergence the results are, too.
void compute(const char* name, cudaStream_t stream, const Svd& p, bool transposed_v, double* perturbation) {
    enqueue(stream, [=, key = std::string(name)] {
        const Stored as{p.a, p.type, p.m, p.n, p.lda};
        Wide u;
        Wide v;
        std::vector<double> s;
        svd(widen(as), u, s, v);
        Wide destroyed(p.m, p.n);
        std::fill(destroyed.values.begin(), destroyed.values.end(), std::numeric_limits<double>::quiet_NaN());
        narrow(destroyed, as);
        if (state().corrupted.count(key) != 0) u.values[0] += 0.5;
        set_info_result(key, p.info);
        if (perturbation != nullptr) *perturbation = state().perturbation;
        if (*static_cast<int*>(alias(p.info)) != 0) return;
        narrow(u, {p.u, p.type, p.m, u.cols, p.ldu});
        if (transposed_v) {
            Wide vt(v.cols, v.rows);
            for (std::int64_t i = 0; i < v.rows; ++i) {
                for (std::int64_t j = 0; j < v.cols; ++j) vt(j, i) = v(i, j);
            }
            v = vt;
        }
        narrow(v, {p.v, p.type, v.rows, v.cols, p.ldv});
        for (std::size_t i = 0; i < s.size(); ++i) store(p.type, alias(p.s), static_cast<std::int64_t>(i), s[i]);
    });
}

bool workspace_rule(Call& call, const Svd& p, const void* device, std::size_t device_size, const void* host,
                    std::size_t host_size) {
    const std::size_t needed = device_bytes(p.m, p.n, p.type);
    bool right = call.rule(device_size >= needed && host_size >= host_bytes(p.n) && host != nullptr,
                           "a workspace is too small", kWorkspace);
    right = call.rule(!is_device(host, 1), "the host workspace is in device memory",
                      "cuSOLVER Library, 64-bit API: bufferOnHost") &&
            right;
    return device_rule(call, "bufferOnDevice", device, needed) && right;
}

template <class T>
cusolverStatus_t gesvdj_size(const char* name, cusolverDnHandle_t handle, int m, int n, int lda, int* elements,
                             gesvdjInfo_t parameters) {
    LOWRANK_EMULATED(name, CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle) || !handle_rule(call, parameters, kJacobi)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!call.rule(m >= 0 && n >= 0 && lda >= std::max(1, m), "a size or a leading dimension is wrong", kGesvdj))
        return CUSOLVER_STATUS_INVALID_VALUE;
    *elements = static_cast<int>(device_bytes(m, n, CUDA_R_32F) / 4);
    return CUSOLVER_STATUS_SUCCESS;
}

template <class T>
cusolverStatus_t gesvdj(const char* name, cusolverDnHandle_t handle, cusolverEigMode_t mode, int econ, const Svd& p,
                        T* work, int elements, gesvdjInfo_t parameters) {
    LOWRANK_EMULATED(name, CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle) || !handle_rule(call, parameters, kJacobi)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    bool right = call.rule(mode == CUSOLVER_EIG_MODE_VECTOR && econ == 1 && p.m >= p.n,
                           "only thin vectors of a tall matrix are emulated", "this emulation");
    right = svd_rule(call, p, kGesvdj) && right;
    const std::size_t needed = device_bytes(p.m, p.n, CUDA_R_32F) / 4;
    right = call.rule(elements >= static_cast<int>(needed), "the workspace is too small", kWorkspace) && right;
    right = device_rule(call, "work", work, needed * sizeof(T)) && right;
    if (!right) return CUSOLVER_STATUS_INVALID_VALUE;
    compute(name, stream_of(handle), p, false, nullptr);
    return CUSOLVER_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cusolverStatus_t CUSOLVERAPI cusolverDnXgesvdp_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                                          cusolverEigMode_t, int, std::int64_t m, std::int64_t n,
                                                          cudaDataType type, const void*, std::int64_t lda,
                                                          cudaDataType, const void*, cudaDataType, const void*,
                                                          std::int64_t ldu, cudaDataType, const void*, std::int64_t ldv,
                                                          cudaDataType compute_type, std::size_t* device,
                                                          std::size_t* host) {
    LOWRANK_EMULATED("cusolverDnXgesvdp_bufferSize", CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle) || !handle_rule(call, parameters, kParameters))
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!call.rule(lda >= m && ldu >= m && ldv >= n && compute_type == type, "a leading dimension or type is wrong",
                   kGesvdp)) {
        return CUSOLVER_STATUS_INVALID_VALUE;
    }
    *device = device_bytes(m, n, type);
    *host = host_bytes(n);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t CUSOLVERAPI cusolverDnXgesvdp(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                               cusolverEigMode_t mode, int econ, std::int64_t m, std::int64_t n,
                                               cudaDataType type, void* a, std::int64_t lda, cudaDataType, void* s,
                                               cudaDataType, void* u, std::int64_t ldu, cudaDataType, void* v,
                                               std::int64_t ldv, cudaDataType, void* device, std::size_t device_size,
                                               void* host, std::size_t host_size, int* info, double* perturbation) {
    LOWRANK_EMULATED("cusolverDnXgesvdp", CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle) || !handle_rule(call, parameters, kParameters))
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    const Svd p{m, n, type, a, lda, s, u, ldu, v, ldv, info};
    bool right = call.rule(mode == CUSOLVER_EIG_MODE_VECTOR && econ == 1 && m >= n,
                           "only thin vectors of a tall matrix are emulated", "this emulation");
    right = svd_rule(call, p, kGesvdp) && right;
    right = workspace_rule(call, p, device, device_size, host, host_size) && right;
    right = call.rule(perturbation != nullptr && !is_device(perturbation, 1), "h_err_sigma must be in host memory",
                      kGesvdp) &&
            right;
    if (!right) return CUSOLVER_STATUS_INVALID_VALUE;
    compute("cusolverDnXgesvdp", stream_of(handle), p, false, perturbation);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t CUSOLVERAPI cusolverDnXgesvd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                                         signed char, signed char, std::int64_t m, std::int64_t n,
                                                         cudaDataType type, const void*, std::int64_t lda, cudaDataType,
                                                         const void*, cudaDataType, const void*, std::int64_t ldu,
                                                         cudaDataType, const void*, std::int64_t ldv, cudaDataType,
                                                         std::size_t* device, std::size_t* host) {
    LOWRANK_EMULATED("cusolverDnXgesvd_bufferSize", CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle) || !handle_rule(call, parameters, kParameters))
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!call.rule(m >= n && lda >= m && ldu >= m && ldv >= n, "m < n, or a leading dimension is wrong", kGesvd))
        return CUSOLVER_STATUS_INVALID_VALUE;
    *device = device_bytes(m, n, type);
    *host = host_bytes(n);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t CUSOLVERAPI cusolverDnXgesvd(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                              signed char jobu, signed char jobvt, std::int64_t m, std::int64_t n,
                                              cudaDataType type, void* a, std::int64_t lda, cudaDataType, void* s,
                                              cudaDataType, void* u, std::int64_t ldu, cudaDataType, void* vt,
                                              std::int64_t ldvt, cudaDataType, void* device, std::size_t device_size,
                                              void* host, std::size_t host_size, int* info) {
    LOWRANK_EMULATED("cusolverDnXgesvd", CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle) || !handle_rule(call, parameters, kParameters))
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    const Svd p{m, n, type, a, lda, s, u, ldu, vt, ldvt, info};
    bool right = call.rule(jobu == 'S' && jobvt == 'S', "only thin vectors are emulated", "this emulation");
    right = call.rule(m >= n, "m < n", kGesvd) && right;
    right = svd_rule(call, p, kGesvd) && right;
    right = workspace_rule(call, p, device, device_size, host, host_size) && right;
    if (!right) return CUSOLVER_STATUS_INVALID_VALUE;
    compute("cusolverDnXgesvd", stream_of(handle), p, true, nullptr);
    return CUSOLVER_STATUS_SUCCESS;
}

// The typed functions, once for float and once for double.
#define LOWRANK_TYPED(S, T, TYPE)                                                                                      \
    cusolverStatus_t CUSOLVERAPI cusolverDn##S##gesvdj_bufferSize(                                                     \
        cusolverDnHandle_t handle, cusolverEigMode_t, int, int m, int n, const T*, int lda, const T*, const T*, int,   \
        const T*, int, int* elements, gesvdjInfo_t parameters) {                                                       \
        return gesvdj_size<T>("cusolverDn" #S "gesvdj_bufferSize", handle, m, n, lda, elements, parameters);           \
    }                                                                                                                  \
    cusolverStatus_t CUSOLVERAPI cusolverDn##S##gesvdj(                                                                \
        cusolverDnHandle_t handle, cusolverEigMode_t mode, int econ, int m, int n, T* a, int lda, T* s, T* u, int ldu, \
        T* v, int ldv, T* work, int elements, int* info, gesvdjInfo_t parameters) {                                    \
        return gesvdj<T>("cusolverDn" #S "gesvdj", handle, mode, econ, {m, n, TYPE, a, lda, s, u, ldu, v, ldv, info},  \
                         work, elements, parameters);                                                                  \
    }
LOWRANK_TYPED(S, float, CUDA_R_32F)
LOWRANK_TYPED(D, double, CUDA_R_64F)
#undef LOWRANK_TYPED

}  // extern "C"
