// Emulated cuBLAS.
#include "kernels.hpp"

#include <cmath>
#include <string>

using namespace emulation;

namespace {

constexpr const char* kBlas = "cuBLAS";
constexpr const char* kGemm = "cuBLAS Library, cublasGemmEx(): CUBLAS_STATUS_INVALID_VALUE";
constexpr const char* kLevel1 = "cuBLAS Library, level-1 functions: CUBLAS_STATUS_INVALID_VALUE";
constexpr const char* kGeam = "cuBLAS Library, cublas<t>geam(): CUBLAS_STATUS_INVALID_VALUE";
constexpr const char* kDgmm = "cuBLAS Library, cublas<t>dgmm(): CUBLAS_STATUS_INVALID_VALUE";
constexpr const char* kTrsm = "cuBLAS Library, cublas<t>trsm(): CUBLAS_STATUS_INVALID_VALUE";

bool handle_rule(Call& call, cublasHandle_t handle) {
    return call.rule(is_handle(handle, kBlas), "the handle is not alive",
                     "cuBLAS Library, cublasStatus_t: CUBLAS_STATUS_NOT_INITIALIZED");
}
cudaStream_t stream_of(cublasHandle_t handle) {
    return reinterpret_cast<HandleObject*>(handle)->stream;
}

double scalar(cublasComputeType_t compute, const void* value) {
    return compute == CUBLAS_COMPUTE_64F ? *static_cast<const double*>(value) : *static_cast<const float*>(value);
}

template <class T>
constexpr cudaDataType_t type_of() {
    return sizeof(T) == 8 ? CUDA_R_64F : CUDA_R_32F;
}

/// Row and column counts of an operand as it is stored.
Stored stored(cublasOperation_t op, std::int64_t rows, std::int64_t cols, const void* data, cudaDataType_t type,
              std::int64_t ld) {
    return op == CUBLAS_OP_N ? Stored{data, type, rows, cols, ld} : Stored{data, type, cols, rows, ld};
}

template <class T>
cublasStatus_t geam(const char* name, cublasHandle_t handle, cublasOperation_t opa, cublasOperation_t opb,
                    std::int64_t m, std::int64_t n, const T* alpha, const T* a, std::int64_t lda, const T* beta,
                    const T* b, std::int64_t ldb, T* c, std::int64_t ldc) {
    LOWRANK_EMULATED(name, CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Stored as = stored(opa, m, n, a, type_of<T>(), lda);
    const Stored bs = stored(opb, m, n, b, type_of<T>(), ldb);
    const Stored cs{c, type_of<T>(), m, n, ldc};
    bool right = operand_rule(call, "A", as, kGeam);
    right = operand_rule(call, "C", cs, kGeam) && right;
    if (*beta != 0 || b != c) right = operand_rule(call, "B", bs, kGeam) && right;
    right = call.rule(a != c || (opa == CUBLAS_OP_N && lda == ldc), "in place, A must lie as C does",
                      "cuBLAS Library, cublas<t>geam(): in-place mode needs lda = ldc and transa = CUBLAS_OP_N") &&
            right;
    right = call.rule(b != c || (opb == CUBLAS_OP_N && ldb == ldc), "in place, B must lie as C does",
                      "cuBLAS Library, cublas<t>geam(): in-place mode needs ldb = ldc and transb = CUBLAS_OP_N") &&
            right;
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=, factor = static_cast<double>(*alpha), other = static_cast<double>(*beta)] {
        Wide result = widen(as, opa != CUBLAS_OP_N);
        for (double& value : result.values) value *= factor;
        if (other != 0) {
            const Wide second = widen(bs, opb != CUBLAS_OP_N);
            for (std::size_t i = 0; i < result.values.size(); ++i) result.values[i] += other * second.values[i];
        }
        narrow(result, cs);
    });
    return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t dgmm(const char* name, cublasHandle_t handle, cublasSideMode_t side, std::int64_t m, std::int64_t n,
                    const T* a, std::int64_t lda, const T* x, std::int64_t incx, T* c, std::int64_t ldc) {
    LOWRANK_EMULATED(name, CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Stored as{a, type_of<T>(), m, n, lda};
    const Stored cs{c, type_of<T>(), m, n, ldc};
    bool right =
        call.rule(side == CUBLAS_SIDE_RIGHT && incx == 1, "only A diag(x), incx = 1, is emulated", "this emulation");
    right = operand_rule(call, "A", as, kDgmm) && operand_rule(call, "C", cs, kDgmm) && right;
    right = device_rule(call, "x", x, static_cast<std::size_t>(n) * sizeof(T)) && right;
    right = call.rule(a != c || lda == ldc, "in place, A must lie as C does",
                      "cuBLAS Library, cublas<t>dgmm(): in-place if lda = ldc and A = C") &&
            right;
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=] {
        Wide result = widen(as);
        for (std::int64_t j = 0; j < n; ++j) {
            for (std::int64_t i = 0; i < m; ++i) result(i, j) *= load(type_of<T>(), alias(x), j);
        }
        narrow(result, cs);
    });
    return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t scal(const char* name, cublasHandle_t handle, std::int64_t n, const T* alpha, T* x, std::int64_t incx) {
    LOWRANK_EMULATED(name, CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    bool right = call.rule(incx == 1, "only incx = 1 is emulated", "this emulation");
    right = device_rule(call, "x", x, static_cast<std::size_t>(n) * sizeof(T)) && right;
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=, factor = *alpha] {
        T* data = static_cast<T*>(alias(x));
        for (std::int64_t i = 0; i < n; ++i) data[i] *= factor;
    });
    return CUBLAS_STATUS_SUCCESS;
}

/// A reduction whose result goes to host memory: it waits for the stream.
template <class T, class Result, class Reduce>
cublasStatus_t reduce(const char* name, cublasHandle_t handle, std::int64_t n, const T* x, std::int64_t incx,
                      Result* result, const Reduce& reduction) {
    LOWRANK_EMULATED(name, CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    bool right = call.rule(n >= 0 && incx == 1, "a negative count, or incx is not 1", kLevel1);
    right = device_rule(call, "x", x, static_cast<std::size_t>(n) * sizeof(T)) && right;
    right = call.rule(!is_device(result, sizeof(Result)), "the result must be in host memory",
                      "cuBLAS Library, cublasSetPointerMode(): CUBLAS_POINTER_MODE_HOST") &&
            right;
    right = call.rule(state().capturing == 0, "a result in host memory cannot be captured",
                      "cuBLAS Library, CUDA Graphs Support: pointer mode of the device") &&
            right;
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    run(stream_of(handle));
    *result = reduction(static_cast<const T*>(alias(x)), n);
    return CUBLAS_STATUS_SUCCESS;
}

template <class T>
std::int64_t amax(const T* x, std::int64_t n) {
    std::int64_t best = 0;
    for (std::int64_t i = 1; i < n; ++i) {
        if (std::abs(x[i]) > std::abs(x[best])) best = i;
    }
    return n > 0 ? best + 1 : 0;
}
template <class T>
T nrm2(const T* x, std::int64_t n) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return static_cast<T>(std::sqrt(sum));
}

template <class T>
cublasStatus_t trsm(const char* name, cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                    cublasOperation_t op, cublasDiagType_t diag, std::int64_t m, std::int64_t n, const T* alpha,
                    const T* a, std::int64_t lda, T* b, std::int64_t ldb) {
    LOWRANK_EMULATED(name, CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Stored as{a, type_of<T>(), n, n, lda};
    const Stored bs{b, type_of<T>(), m, n, ldb};
    bool right = call.rule(side == CUBLAS_SIDE_RIGHT && uplo == CUBLAS_FILL_MODE_UPPER && op == CUBLAS_OP_N &&
                               diag == CUBLAS_DIAG_NON_UNIT && *alpha == 1,
                           "only B R^-1 is emulated", "this emulation");
    right = operand_rule(call, "A", as, kTrsm) && operand_rule(call, "B", bs, kTrsm) && right;
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=] {
        const Wide r = widen(as);
        Wide x = widen(bs);
        for (std::int64_t j = 0; j < n; ++j) {
            for (std::int64_t k = 0; k < j; ++k) {
                for (std::int64_t i = 0; i < m; ++i) x(i, j) -= x(i, k) * r(k, j);
            }
            for (std::int64_t i = 0; i < m; ++i) x(i, j) /= r(j, j);
        }
        narrow(x, bs);
    });
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

const char* CUBLASWINAPI cublasGetStatusName(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
        case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
        default: return "CUBLAS_STATUS";
    }
}

cublasStatus_t CUBLASWINAPI cublasCreate_v2(cublasHandle_t* handle) {
    LOWRANK_EMULATED("cublasCreate", CUBLAS_STATUS_NOT_INITIALIZED);
    *handle = reinterpret_cast<cublasHandle_t>(make_handle(kBlas));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasDestroy_v2(cublasHandle_t handle) {
    Call call("cublasDestroy");
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (is_stream(stream_of(handle))) run(stream_of(handle));
    destroy_handle(handle, kBlas);
    return call.must_fail() ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    LOWRANK_EMULATED("cublasSetStream", CUBLAS_STATUS_NOT_INITIALIZED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!call.rule(is_stream(stream), "the stream is not alive", "cuBLAS Library, cublasSetStream()"))
        return CUBLAS_STATUS_INVALID_VALUE;
    reinterpret_cast<HandleObject*>(handle)->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
    LOWRANK_EMULATED("cublasGetStream", CUBLAS_STATUS_NOT_INITIALIZED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    *stream = stream_of(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
    LOWRANK_EMULATED("cublasSetPointerMode", CUBLAS_STATUS_NOT_INITIALIZED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    reinterpret_cast<HandleObject*>(handle)->pointer_mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
    LOWRANK_EMULATED("cublasGetPointerMode", CUBLAS_STATUS_NOT_INITIALIZED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    *mode = reinterpret_cast<HandleObject*>(handle)->pointer_mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t opa, cublasOperation_t opb,
                                            std::int64_t m, std::int64_t n, std::int64_t k, const void* alpha,
                                            const void* a, cudaDataType atype, std::int64_t lda, const void* b,
                                            cudaDataType btype, std::int64_t ldb, const void* beta, void* c,
                                            cudaDataType ctype, std::int64_t ldc, cublasComputeType_t compute,
                                            cublasGemmAlgo_t) {
    LOWRANK_EMULATED("cublasGemmEx_64", CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    const bool wide = compute == CUBLAS_COMPUTE_64F && atype == CUDA_R_64F && ctype == CUDA_R_64F;
    const bool narrow_types =
        compute == CUBLAS_COMPUTE_32F &&
        ((atype == CUDA_R_32F && ctype == CUDA_R_32F) ||
         ((atype == CUDA_R_16BF || atype == CUDA_R_16F) && (ctype == CUDA_R_32F || ctype == atype)));
    if (!call.rule(atype == btype && (wide || narrow_types), "the combination of types is not supported",
                   "cuBLAS Library, cublasGemmEx(): table of supported types, CUBLAS_STATUS_NOT_SUPPORTED")) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    const Stored as = stored(opa, m, k, a, atype, lda);
    const Stored bs = stored(opb, k, n, b, btype, ldb);
    const Stored cs{c, ctype, m, n, ldc};
    bool right = operand_rule(call, "A", as, kGemm);
    right = operand_rule(call, "B", bs, kGemm) && right;
    right = operand_rule(call, "C", cs, kGemm) && right;
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    enqueue(stream_of(handle), [=, factor = scalar(compute, alpha), other = scalar(compute, beta)] {
        emulation::narrow(multiply(factor, widen(as, opa != CUBLAS_OP_N), widen(bs, opb != CUBLAS_OP_N), other, cs),
                          cs);
    });
    return CUBLAS_STATUS_SUCCESS;
}

// The typed functions, once for float and once for double.
#define LOWRANK_TYPED(S, T)                                                                                        \
    cublasStatus_t CUBLASWINAPI cublas##S##geam_64(cublasHandle_t handle, cublasOperation_t opa,                   \
                                                   cublasOperation_t opb, std::int64_t m, std::int64_t n,          \
                                                   const T* alpha, const T* a, std::int64_t lda, const T* beta,    \
                                                   const T* b, std::int64_t ldb, T* c, std::int64_t ldc) {         \
        return geam("cublas" #S "geam_64", handle, opa, opb, m, n, alpha, a, lda, beta, b, ldb, c, ldc);           \
    }                                                                                                              \
    cublasStatus_t CUBLASWINAPI cublas##S##dgmm_64(cublasHandle_t handle, cublasSideMode_t side, std::int64_t m,   \
                                                   std::int64_t n, const T* a, std::int64_t lda, const T* x,       \
                                                   std::int64_t incx, T* c, std::int64_t ldc) {                    \
        return dgmm("cublas" #S "dgmm_64", handle, side, m, n, a, lda, x, incx, c, ldc);                           \
    }                                                                                                              \
    cublasStatus_t CUBLASWINAPI cublas##S##scal_v2_64(cublasHandle_t handle, std::int64_t n, const T* alpha, T* x, \
                                                      std::int64_t incx) {                                         \
        return scal("cublas" #S "scal_64", handle, n, alpha, x, incx);                                             \
    }                                                                                                              \
    cublasStatus_t CUBLASWINAPI cublas##S##nrm2_v2_64(cublasHandle_t handle, std::int64_t n, const T* x,           \
                                                      std::int64_t incx, T* result) {                              \
        return reduce("cublas" #S "nrm2_64", handle, n, x, incx, result, nrm2<T>);                                 \
    }                                                                                                              \
    cublasStatus_t CUBLASWINAPI cublas##S##trsm_v2_64(                                                             \
        cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo, cublasOperation_t op,                 \
        cublasDiagType_t diag, std::int64_t m, std::int64_t n, const T* alpha, const T* a, std::int64_t lda, T* b, \
        std::int64_t ldb) {                                                                                        \
        return trsm("cublas" #S "trsm_64", handle, side, uplo, op, diag, m, n, alpha, a, lda, b, ldb);             \
    }
LOWRANK_TYPED(S, float)
LOWRANK_TYPED(D, double)
#undef LOWRANK_TYPED

cublasStatus_t CUBLASWINAPI cublasIsamax_v2_64(cublasHandle_t handle, std::int64_t n, const float* x, std::int64_t incx,
                                               std::int64_t* result) {
    return reduce("cublasIsamax_64", handle, n, x, incx, result, amax<float>);
}
cublasStatus_t CUBLASWINAPI cublasIdamax_v2_64(cublasHandle_t handle, std::int64_t n, const double* x,
                                               std::int64_t incx, std::int64_t* result) {
    return reduce("cublasIdamax_64", handle, n, x, incx, result, amax<double>);
}

}  // extern "C"
