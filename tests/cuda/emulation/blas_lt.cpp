// Emulated cuBLASLt. Its opaque structures hold what they were told; an algorithm remembers what it was found for, and
// is refused for anything else.
#include "kernels.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <string>

using namespace emulation;

namespace {

constexpr const char* kLt = "cuBLASLt";
constexpr const char* kMatmul = "cuBLAS Library, cublasLtMatmul(): CUBLAS_STATUS_INVALID_VALUE";
constexpr std::uint64_t kMagic = 0x6c6f7772616e6b00U;
// What every algorithm here wants, so that a missing workspace is noticed.
constexpr std::size_t kWorkspace = 4096;

struct Layout {
    std::uint64_t magic;
    std::uint64_t type;
    std::int64_t rows;
    std::int64_t cols;
    std::int64_t leading_dimension;
};
struct Description {
    std::uint64_t magic;
    std::uint64_t compute;
    std::uint64_t scale;
    std::uint64_t epilogue;
    std::uint64_t bias_type;
    const void* bias;
    std::uint64_t transposed_a;
};
struct Preference {
    std::uint64_t magic;
    std::uint64_t workspace;
    std::uint32_t alignment[4];
};
struct Algorithm {
    std::int64_t m;
    std::int64_t n;
    std::int64_t k;
    std::uint16_t in;
    std::uint16_t out;
    std::uint16_t in_alignment;
    std::uint16_t out_alignment;
    std::uint64_t biased;
};
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(Description) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

template <class To, class From>
To read(const From* opaque) {
    To value;
    std::memcpy(&value, opaque, sizeof(value));
    return value;
}
template <class To, class From>
void write(To* opaque, const From& value) {
    std::memcpy(opaque, &value, sizeof(value));
}

bool handle_rule(Call& call, cublasLtHandle_t handle) {
    return call.rule(is_handle(handle, kLt), "the handle is not alive",
                     "cuBLAS Library, cublasStatus_t: CUBLAS_STATUS_NOT_INITIALIZED");
}

struct Problem {
    Description description;
    Layout a;
    Layout b;
    Layout c;
    Layout d;

    [[nodiscard]] bool transposed() const { return description.transposed_a != 0; }
    [[nodiscard]] std::int64_t m() const { return transposed() ? a.cols : a.rows; }
    [[nodiscard]] std::int64_t k() const { return transposed() ? a.rows : a.cols; }
};

/// That descriptors are initialised, and that sizes and types go together.
bool problem_rule(Call& call, const Problem& p) {
    const bool initialised = p.description.magic == kMagic && p.a.magic == kMagic && p.b.magic == kMagic &&
                             p.c.magic == kMagic && p.d.magic == kMagic;
    if (!call.rule(initialised, "a descriptor is not initialised", kMatmul)) return false;
    bool right = call.rule(
        p.m() == p.d.rows && p.k() == p.b.rows && p.b.cols == p.d.cols && p.c.rows == p.d.rows && p.c.cols == p.d.cols,
        "the shapes do not go together", kMatmul);
    for (const Layout* x : {&p.a, &p.b, &p.c, &p.d}) {
        right = call.rule(x->rows > 0 && x->cols > 0 && x->leading_dimension >= x->rows,
                          "an empty matrix, or a leading dimension below the rows", kMatmul) &&
                right;
    }
    const auto in = p.a.type;
    const auto out = p.d.type;
    const bool wide = in == CUDA_R_64F && out == CUDA_R_64F && p.description.compute == CUBLAS_COMPUTE_64F &&
                      p.description.scale == CUDA_R_64F;
    const bool single = p.description.compute == CUBLAS_COMPUTE_32F && p.description.scale == CUDA_R_32F &&
                        ((in == CUDA_R_32F && out == CUDA_R_32F) ||
                         ((in == CUDA_R_16BF || in == CUDA_R_16F) && (out == in || out == CUDA_R_32F)));
    right =
        call.rule(p.b.type == in && p.c.type == out && (wide || single), "the combination of types is not supported",
                  "cuBLAS Library, cublasLtMatmul(): table of supported types") &&
        right;
    if (p.description.epilogue == CUBLASLT_EPILOGUE_BIAS) {
        right = call.rule(p.description.bias_type == out, "the bias must be of D's type",
                          "cuBLAS Library, cublasLtMatmul(): table of supported types, bias") &&
                right;
    }
    return right;
}

bool aligned(const void* address, std::uint64_t bytes) {
    return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}
Stored stored(const Layout& layout, const void* data) {
    return {data, static_cast<cudaDataType_t>(layout.type), layout.rows, layout.cols, layout.leading_dimension};
}
std::uint64_t pitch(const Layout& layout) {
    return static_cast<std::uint64_t>(layout.leading_dimension) * type_bytes(static_cast<cudaDataType_t>(layout.type));
}

}  // namespace

extern "C" {

cublasStatus_t CUBLASWINAPI cublasLtCreate(cublasLtHandle_t* handle) {
    LOWRANK_EMULATED("cublasLtCreate", CUBLAS_STATUS_NOT_INITIALIZED);
    *handle = reinterpret_cast<cublasLtHandle_t>(make_handle(kLt));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtDestroy(cublasLtHandle_t handle) {
    Call call("cublasLtDestroy");
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    destroy_handle(handle, kLt);
    return call.must_fail() ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, std::size_t size,
                                                              cudaDataType type, std::uint64_t rows, std::uint64_t cols,
                                                              std::int64_t ld) {
    LOWRANK_EMULATED("cublasLtMatrixLayoutInit", CUBLAS_STATUS_ALLOC_FAILED);
    if (size != sizeof(*layout)) return CUBLAS_STATUS_ALLOC_FAILED;
    write(layout, Layout{kMagic, static_cast<std::uint64_t>(type), static_cast<std::int64_t>(rows),
                         static_cast<std::int64_t>(cols), ld});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t description, std::size_t size,
                                                            cublasComputeType_t compute, cudaDataType_t scale) {
    LOWRANK_EMULATED("cublasLtMatmulDescInit", CUBLAS_STATUS_ALLOC_FAILED);
    if (size != sizeof(*description)) return CUBLAS_STATUS_ALLOC_FAILED;
    write(description, Description{kMagic, static_cast<std::uint64_t>(compute), static_cast<std::uint64_t>(scale),
                                   CUBLASLT_EPILOGUE_DEFAULT, 0, nullptr, 0});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                                           cublasLtMatmulDescAttributes_t attribute, const void* value,
                                                           std::size_t size) {
    LOWRANK_EMULATED("cublasLtMatmulDescSetAttribute", CUBLAS_STATUS_INVALID_VALUE);
    auto d = read<Description>(description);
    const std::size_t expected = attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void*) : 4;
    if (!call.rule(d.magic == kMagic && size == expected, "not initialised, or a value of the wrong size",
                   "cuBLAS Library, cublasLtMatmulDescSetAttribute(): sizeInBytes")) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    std::uint32_t number = 0;
    if (size == 4) std::memcpy(&number, value, 4);
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA: d.transposed_a = number == CUBLAS_OP_N ? 0 : 1; break;
        case CUBLASLT_MATMUL_DESC_EPILOGUE: d.epilogue = number; break;
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: d.bias_type = number; break;
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER: std::memcpy(&d.bias, value, sizeof(void*)); break;
        default: return CUBLAS_STATUS_INVALID_VALUE;
    }
    write(description, d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                                  std::size_t size) {
    LOWRANK_EMULATED("cublasLtMatmulPreferenceInit", CUBLAS_STATUS_ALLOC_FAILED);
    if (size != sizeof(*preference)) return CUBLAS_STATUS_ALLOC_FAILED;
    write(preference, Preference{kMagic, 0, {256, 256, 256, 256}});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                                 cublasLtMatmulPreferenceAttributes_t attribute,
                                                                 const void* value, std::size_t size) {
    LOWRANK_EMULATED("cublasLtMatmulPreferenceSetAttribute", CUBLAS_STATUS_INVALID_VALUE);
    auto p = read<Preference>(preference);
    const bool workspace = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    if (!call.rule(p.magic == kMagic && size == (workspace ? 8U : 4U), "not initialised, or a value of the wrong size",
                   "cuBLAS Library, cublasLtMatmulPreferenceSetAttribute(): sizeInBytes")) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (workspace) {
        std::memcpy(&p.workspace, value, 8);
    } else {
        std::memcpy(&p.alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, 4);
    }
    write(preference, p);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                                           cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                           cublasLtMatmulPreference_t preference, int requested,
                                                           cublasLtMatmulHeuristicResult_t results[], int* found) {
    LOWRANK_EMULATED("cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Problem p{read<Description>(description), read<Layout>(a), read<Layout>(b), read<Layout>(c), read<Layout>(d)};
    if (!problem_rule(call, p) ||
        !call.rule(requested > 0, "no algorithm was asked for", "cuBLAS Library, cublasLtMatmulAlgoGetHeuristic()")) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const auto wishes = read<Preference>(preference);
    *found = 0;
    if (state().no_algorithms || wishes.workspace < kWorkspace) return CUBLAS_STATUS_NOT_SUPPORTED;
    results[0] = {};
    write(&results[0].algo, Algorithm{p.d.rows, p.d.cols, p.k(), static_cast<std::uint16_t>(p.a.type),
                                      static_cast<std::uint16_t>(p.d.type),
                                      static_cast<std::uint16_t>(std::min(wishes.alignment[0], wishes.alignment[1])),
                                      static_cast<std::uint16_t>(std::min(wishes.alignment[2], wishes.alignment[3])),
                                      p.description.epilogue == CUBLASLT_EPILOGUE_BIAS ? 1U : 0U});
    results[0].workspaceSize = kWorkspace;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void* alpha,
                                           const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                                           cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                                           cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                                           const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                                           std::size_t workspace_bytes, cudaStream_t stream) {
    LOWRANK_EMULATED("cublasLtMatmul", CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handle_rule(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Problem p{read<Description>(description), read<Layout>(a_layout), read<Layout>(b_layout),
                    read<Layout>(c_layout), read<Layout>(d_layout)};
    if (!problem_rule(call, p)) return CUBLAS_STATUS_INVALID_VALUE;
    bool right = call.rule(is_stream(stream), "the stream is not alive", kMatmul);
    right = call.rule(algorithm != nullptr, "the algorithm must be found before",
                      "cuBLAS Library, cublasLtMatmul(): a null algo queries the heuristics implicitly") &&
            right;
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    const auto found = read<Algorithm>(algorithm);
    const bool biased = p.description.epilogue == CUBLASLT_EPILOGUE_BIAS;
    right = call.rule(found.m == p.d.rows && found.k == p.k() && found.n >= p.d.cols && found.in == p.a.type &&
                          found.out == p.d.type && found.biased == (biased ? 1U : 0U),
                      "the algorithm was found for another product", kMatmul) &&
            right;
    right = call.rule(aligned(a, found.in_alignment) && pitch(p.a) % found.in_alignment == 0 &&
                          aligned(b, found.in_alignment) && pitch(p.b) % found.in_alignment == 0 &&
                          aligned(c, found.out_alignment) && aligned(d, found.out_alignment) &&
                          pitch(p.d) % found.out_alignment == 0,
                      "a matrix is aligned less than the algorithm was told",
                      "cuBLAS Library, cublasLtMatmulPreferenceAttributes_t: minimum buffer alignment") &&
            right;
    right = call.rule(workspace_bytes >= kWorkspace, "the workspace is below what the heuristics said",
                      "cuBLAS Library, cublasLtMatmulHeuristicResult_t: workspaceSize") &&
            right;
    right = call.rule(aligned(workspace, 256), "the workspace is not aligned to 256 bytes",
                      "cuBLAS Library, cublasSetWorkspace(): aligned to at least 256 bytes") &&
            right;
    right = device_rule(call, "workspace", workspace, workspace_bytes) && right;
    right = operand_rule(call, "A", stored(p.a, a), kMatmul) && right;
    right = operand_rule(call, "B", stored(p.b, b), kMatmul) && right;
    right = operand_rule(call, "D", stored(p.d, d), kMatmul) && right;
    const void* bias = p.description.bias;
    if (biased) {
        const auto bytes = static_cast<std::size_t>(p.d.rows) * type_bytes(static_cast<cudaDataType_t>(p.d.type));
        right = call.rule(aligned(bias, 16), "the bias is not aligned to 16 bytes",
                          "cuBLAS Library, CUBLASLT_MATMUL_DESC_BIAS_POINTER: its value determines the alignment") &&
                right;
        right = device_rule(call, "bias", bias, bytes) && right;
    }
    if (!right) return CUBLAS_STATUS_INVALID_VALUE;
    const bool wide = p.description.compute == CUBLAS_COMPUTE_64F;
    const auto scalar = [wide](const void* value) {
        return wide ? *static_cast<const double*>(value) : *static_cast<const float*>(value);
    };
    enqueue(stream, [=, factor = scalar(alpha), other = scalar(beta)] {
        std::memset(alias(workspace), 0xff, workspace_bytes);
        Wide result =
            multiply(factor, widen(stored(p.a, a), p.transposed()), widen(stored(p.b, b)), other, stored(p.c, c));
        for (std::int64_t j = 0; biased && j < result.cols; ++j) {
            for (std::int64_t i = 0; i < result.rows; ++i) {
                result(i, j) += load(static_cast<cudaDataType_t>(p.d.type), alias(bias), i);
            }
        }
        narrow(result, stored(p.d, d));
    });
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
