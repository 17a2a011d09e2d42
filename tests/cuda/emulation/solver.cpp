// Emulated cuSOLVER: handles, Cholesky, Householder QR and the symmetric eigenproblem.
#include "solver.hpp"
#include "factorisations.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

using namespace emulation;
using namespace emulation::solver;

namespace {

constexpr const char* kOrgqr = "cuSOLVER Library, cusolverDn<t>orgqr(): CUSOLVER_STATUS_INVALID_VALUE";

/// What the routines on one square or tall matrix have in common: handles, the matrix, `info` and the workspaces.
struct Factorisation {
    cusolverDnHandle_t handle;
    cusolverDnParams_t parameters;
    Stored a;
    void* device;
    std::size_t device_size;
    void* host;
    std::size_t host_size;
    int* info;
};

bool factorisation_rule(Call& call, const Factorisation& f, const char* source) {
    bool right = operand_rule(call, "A", f.a, source);
    right = device_rule(call, "info", f.info, sizeof(int)) && right;
    const std::size_t needed = device_bytes(f.a.rows, f.a.cols, f.a.type);
    right = call.rule(f.device_size >= needed && f.host_size >= host_bytes(f.a.cols) && f.host != nullptr,
                      "a workspace is too small", kWorkspace) &&
            right;
    return device_rule(call, "bufferOnDevice", f.device, needed) && right;
}

/// The size query of all of them.
cusolverStatus_t workspace(Call& call, cusolverDnHandle_t handle, cusolverDnParams_t parameters, std::int64_t m,
                           std::int64_t n, std::int64_t lda, cudaDataType type, std::size_t* device,
                           std::size_t* host) {
    if (!handles_rule(call, handle, parameters)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!call.rule(m >= 0 && n >= 0 && lda >= std::max<std::int64_t>(1, m), "a size or a leading dimension is wrong",
                   "cuSOLVER Library, 64-bit API: CUSOLVER_STATUS_INVALID_VALUE")) {
        return CUSOLVER_STATUS_INVALID_VALUE;
    }
    *device = device_bytes(m, n, type);
    *host = host_bytes(n);
    return CUSOLVER_STATUS_SUCCESS;
}

template <class T>
cusolverStatus_t orgqr_size(const char* name, cusolverDnHandle_t handle, int m, int n, int k, int lda, int* elements) {
    LOWRANK_EMULATED(name, CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!call.rule(m >= n && n >= k && lda >= std::max(1, m), "m < n, n < k or a leading dimension is wrong", kOrgqr))
        return CUSOLVER_STATUS_INVALID_VALUE;
    *elements = static_cast<int>(device_bytes(m, n, CUDA_R_32F) / 4);
    return CUSOLVER_STATUS_SUCCESS;
}

template <class T>
cusolverStatus_t orgqr(const char* name, cusolverDnHandle_t handle, int m, int n, int k, T* a, int lda, const T* tau,
                       T* work, int elements, int* info) {
    LOWRANK_EMULATED(name, CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    constexpr cudaDataType kType = sizeof(T) == 8 ? CUDA_R_64F : CUDA_R_32F;
    const Stored as{a, kType, m, n, lda};
    const std::size_t needed = device_bytes(m, n, CUDA_R_32F) / 4;
    bool right = call.rule(m >= n && n == k, "m < n, or fewer reflectors than columns", kOrgqr);
    right = operand_rule(call, "A", as, kOrgqr) && right;
    right = call.rule(elements >= static_cast<int>(needed), "the workspace is too small", kWorkspace) && right;
    right = device_rule(call, "work", work, needed * sizeof(T)) && right;
    right = device_rule(call, "tau", tau, static_cast<std::size_t>(k) * sizeof(T)) && right;
    right = device_rule(call, "info", info, sizeof(int)) && right;
    if (!right) return CUSOLVER_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=, key = std::string(name)] {
        Wide q = widen(as);
        std::vector<double> factors;
        for (int i = 0; i < k; ++i) factors.push_back(load(kType, alias(tau), i));
        form_q(q, factors);
        narrow(q, as);
        set_info_result(key, info);
    });
    return CUSOLVER_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cusolverStatus_t CUSOLVERAPI cusolverDnCreate(cusolverDnHandle_t* handle) {
    LOWRANK_EMULATED("cusolverDnCreate", CUSOLVER_STATUS_NOT_INITIALIZED);
    *handle = reinterpret_cast<cusolverDnHandle_t>(make_handle(kSolver));
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t CUSOLVERAPI cusolverDnDestroy(cusolverDnHandle_t handle) {
    Call call("cusolverDnDestroy");
    if (!handle_rule(call, handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (is_stream(stream_of(handle))) run(stream_of(handle));
    destroy_handle(handle, kSolver);
    return call.must_fail() ? CUSOLVER_STATUS_NOT_INITIALIZED : CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t CUSOLVERAPI cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
    LOWRANK_EMULATED("cusolverDnSetStream", CUSOLVER_STATUS_NOT_INITIALIZED);
    if (!handle_rule(call, handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!call.rule(is_stream(stream), "the stream is not alive", "cuSOLVER Library, cusolverDnSetStream()"))
        return CUSOLVER_STATUS_INVALID_VALUE;
    reinterpret_cast<HandleObject*>(handle)->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t CUSOLVERAPI cusolverDnGetStream(cusolverDnHandle_t handle, cudaStream_t* stream) {
    LOWRANK_EMULATED("cusolverDnGetStream", CUSOLVER_STATUS_NOT_INITIALIZED);
    if (!handle_rule(call, handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    *stream = stream_of(handle);
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t CUSOLVERAPI cusolverDnSetDeterministicMode(cusolverDnHandle_t handle, cusolverDeterministicMode_t) {
    LOWRANK_EMULATED("cusolverDnSetDeterministicMode", CUSOLVER_STATUS_NOT_INITIALIZED);
    return handle_rule(call, handle) ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_NOT_INITIALIZED;
}

cusolverStatus_t CUSOLVERAPI cusolverDnCreateParams(cusolverDnParams_t* parameters) {
    LOWRANK_EMULATED("cusolverDnCreateParams", CUSOLVER_STATUS_ALLOC_FAILED);
    *parameters = reinterpret_cast<cusolverDnParams_t>(make_handle(kParameters));
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t CUSOLVERAPI cusolverDnDestroyParams(cusolverDnParams_t parameters) {
    Call call("cusolverDnDestroyParams");
    if (!handle_rule(call, parameters, kParameters)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    destroy_handle(parameters, kParameters);
    return call.must_fail() ? CUSOLVER_STATUS_NOT_INITIALIZED : CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t CUSOLVERAPI cusolverDnCreateGesvdjInfo(gesvdjInfo_t* parameters) {
    LOWRANK_EMULATED("cusolverDnCreateGesvdjInfo", CUSOLVER_STATUS_ALLOC_FAILED);
    *parameters = reinterpret_cast<gesvdjInfo_t>(make_handle(kJacobi));
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t CUSOLVERAPI cusolverDnDestroyGesvdjInfo(gesvdjInfo_t parameters) {
    Call call("cusolverDnDestroyGesvdjInfo");
    if (!handle_rule(call, parameters, kJacobi)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    destroy_handle(parameters, kJacobi);
    return call.must_fail() ? CUSOLVER_STATUS_NOT_INITIALIZED : CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t CUSOLVERAPI cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                                         cublasFillMode_t, std::int64_t n, cudaDataType type,
                                                         const void*, std::int64_t lda, cudaDataType,
                                                         std::size_t* device, std::size_t* host) {
    LOWRANK_EMULATED("cusolverDnXpotrf_bufferSize", CUSOLVER_STATUS_EXECUTION_FAILED);
    return workspace(call, handle, parameters, n, n, lda, type, device, host);
}

cusolverStatus_t CUSOLVERAPI cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                              cublasFillMode_t uplo, std::int64_t n, cudaDataType type, void* a,
                                              std::int64_t lda, cudaDataType, void* device, std::size_t device_size,
                                              void* host, std::size_t host_size, int* info) {
    LOWRANK_EMULATED("cusolverDnXpotrf", CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handles_rule(call, handle, parameters)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    const Factorisation f{handle, parameters, {a, type, n, n, lda}, device, device_size, host, host_size, info};
    bool right = call.rule(uplo == CUBLAS_FILL_MODE_UPPER, "only the upper triangle is emulated", "this emulation");
    right = factorisation_rule(call, f, "cuSOLVER Library, cusolverDnXpotrf(): CUSOLVER_STATUS_INVALID_VALUE") && right;
    if (!right) return CUSOLVER_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=] {
        Wide r = widen(f.a);
        const int minor = cholesky(r);
        narrow(r, f.a);
        set_info_result("cusolverDnXpotrf", info, minor);
    });
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t CUSOLVERAPI cusolverDnXsyevd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                                         cusolverEigMode_t, cublasFillMode_t, std::int64_t n,
                                                         cudaDataType type, const void*, std::int64_t lda, cudaDataType,
                                                         const void*, cudaDataType, std::size_t* device,
                                                         std::size_t* host) {
    LOWRANK_EMULATED("cusolverDnXsyevd_bufferSize", CUSOLVER_STATUS_EXECUTION_FAILED);
    return workspace(call, handle, parameters, n, n, lda, type, device, host);
}

cusolverStatus_t CUSOLVERAPI cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                              cusolverEigMode_t mode, cublasFillMode_t uplo, std::int64_t n,
                                              cudaDataType type, void* a, std::int64_t lda, cudaDataType, void* w,
                                              cudaDataType, void* device, std::size_t device_size, void* host,
                                              std::size_t host_size, int* info) {
    LOWRANK_EMULATED("cusolverDnXsyevd", CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handles_rule(call, handle, parameters)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    const Factorisation f{handle, parameters, {a, type, n, n, lda}, device, device_size, host, host_size, info};
    bool right = call.rule(uplo == CUBLAS_FILL_MODE_UPPER, "only the upper triangle is emulated", "this emulation");
    right = factorisation_rule(call, f, "cuSOLVER Library, cusolverDnXsyevd(): CUSOLVER_STATUS_INVALID_VALUE") && right;
    right = device_rule(call, "W", w, static_cast<std::size_t>(n) * type_bytes(type)) && right;
    if (!right) return CUSOLVER_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=] {
        Wide vectors;
        std::vector<double> values;
        symmetric_eigen(widen(f.a), values, vectors);
        if (mode != CUSOLVER_EIG_MODE_VECTOR) {  // A is destroyed all the same
            std::fill(vectors.values.begin(), vectors.values.end(), std::numeric_limits<double>::quiet_NaN());
        }
        narrow(vectors, f.a);
        for (std::int64_t i = 0; i < n; ++i) store(type, alias(w), i, values[static_cast<std::size_t>(i)]);
        set_info_result("cusolverDnXsyevd", info);
    });
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t CUSOLVERAPI cusolverDnXgeqrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                                         std::int64_t m, std::int64_t n, cudaDataType type, const void*,
                                                         std::int64_t lda, cudaDataType, const void*, cudaDataType,
                                                         std::size_t* device, std::size_t* host) {
    LOWRANK_EMULATED("cusolverDnXgeqrf_bufferSize", CUSOLVER_STATUS_EXECUTION_FAILED);
    return workspace(call, handle, parameters, m, n, lda, type, device, host);
}

cusolverStatus_t CUSOLVERAPI cusolverDnXgeqrf(cusolverDnHandle_t handle, cusolverDnParams_t parameters, std::int64_t m,
                                              std::int64_t n, cudaDataType type, void* a, std::int64_t lda,
                                              cudaDataType, void* tau, cudaDataType, void* device,
                                              std::size_t device_size, void* host, std::size_t host_size, int* info) {
    LOWRANK_EMULATED("cusolverDnXgeqrf", CUSOLVER_STATUS_EXECUTION_FAILED);
    if (!handles_rule(call, handle, parameters)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    const Factorisation f{handle, parameters, {a, type, m, n, lda}, device, device_size, host, host_size, info};
    bool right = call.rule(m >= n, "only tall matrices are emulated", "this emulation");
    right = factorisation_rule(call, f, "cuSOLVER Library, cusolverDnXgeqrf(): CUSOLVER_STATUS_INVALID_VALUE") && right;
    right = device_rule(call, "tau", tau, static_cast<std::size_t>(n) * type_bytes(type)) && right;
    if (!right) return CUSOLVER_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=] {
        Wide qr = widen(f.a);
        std::vector<double> factors;
        householder(qr, factors);
        narrow(qr, f.a);
        for (std::int64_t i = 0; i < n; ++i) store(type, alias(tau), i, factors[static_cast<std::size_t>(i)]);
        set_info_result("cusolverDnXgeqrf", info);
    });
    return CUSOLVER_STATUS_SUCCESS;
}

// The typed functions, once for float and once for double.
#define LOWRANK_TYPED(S, T)                                                                                          \
    cusolverStatus_t CUSOLVERAPI cusolverDn##S##orgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k,     \
                                                                 const T*, int lda, const T*, int* elements) {       \
        return orgqr_size<T>("cusolverDn" #S "orgqr_bufferSize", handle, m, n, k, lda, elements);                    \
    }                                                                                                                \
    cusolverStatus_t CUSOLVERAPI cusolverDn##S##orgqr(cusolverDnHandle_t handle, int m, int n, int k, T* a, int lda, \
                                                      const T* tau, T* work, int elements, int* info) {              \
        return orgqr("cusolverDn" #S "orgqr", handle, m, n, k, a, lda, tau, work, elements, info);                   \
    }
LOWRANK_TYPED(S, float)
LOWRANK_TYPED(D, double)
#undef LOWRANK_TYPED

}  // extern "C"
