// What the emulated kernels compute with: matrices widened to double, column-major, and narrowed again.
#pragma once

#include "state.hpp"

#include <lowrank/scalar.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulation {

inline std::size_t type_bytes(cudaDataType_t type) {
    return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

inline double load(cudaDataType_t type, const void* data, std::int64_t index) {
    switch (type) {
        case CUDA_R_64F: return static_cast<const double*>(data)[index];
        case CUDA_R_32F: return static_cast<const float*>(data)[index];
        case CUDA_R_16BF: return static_cast<double>(static_cast<const lowrank::bf16*>(data)[index]);
        default: return static_cast<double>(static_cast<const lowrank::f16*>(data)[index]);
    }
}

inline void store(cudaDataType_t type, void* data, std::int64_t index, double value) {
    switch (type) {
        case CUDA_R_64F: static_cast<double*>(data)[index] = value; break;
        case CUDA_R_32F: static_cast<float*>(data)[index] = static_cast<float>(value); break;
        case CUDA_R_16BF: static_cast<lowrank::bf16*>(data)[index] = lowrank::bf16(value); break;
        default: static_cast<lowrank::f16*>(data)[index] = lowrank::f16(value); break;
    }
}

/// An operand: `rows` x `cols` elements as stored, at `data` with a leading dimension.
struct Stored {
    const void* data = nullptr;
    cudaDataType_t type = CUDA_R_32F;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    std::int64_t leading_dimension = 0;

    [[nodiscard]] std::size_t bytes() const {
        if (rows <= 0 || cols <= 0) return 0;
        return static_cast<std::size_t>((cols - 1) * leading_dimension + rows) * type_bytes(type);
    }
};

/// Sizes and leading dimension, then the memory itself.
inline bool operand_rule(Call& call, const char* name, const Stored& x, const char* source) {
    bool right = call.rule(x.rows >= 0 && x.cols >= 0, std::string(name) + " has a negative size", source);
    right = call.rule(x.leading_dimension >= (x.rows > 1 ? x.rows : 1),
                      "the leading dimension of " + std::string(name) + ", " + std::to_string(x.leading_dimension) +
                          ", is below its rows, " + std::to_string(x.rows),
                      source) &&
            right;
    return right && device_rule(call, name, x.data, x.bytes());
}

/// A dense column-major matrix in double.
struct Wide {
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    std::vector<double> values;

    Wide() = default;
    Wide(std::int64_t m, std::int64_t n) : rows(m), cols(n), values(static_cast<std::size_t>(m * n)) {}
    double& operator()(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(j * rows + i)]; }
    double operator()(std::int64_t i, std::int64_t j) const { return values[static_cast<std::size_t>(j * rows + i)]; }
};

inline Wide widen(const Stored& x, bool transposed = false) {
    Wide wide(transposed ? x.cols : x.rows, transposed ? x.rows : x.cols);
    const void* data = alias(x.data);
    for (std::int64_t j = 0; j < x.cols; ++j) {
        for (std::int64_t i = 0; i < x.rows; ++i) {
            const double value = load(x.type, data, j * x.leading_dimension + i);
            (transposed ? wide(j, i) : wide(i, j)) = value;
        }
    }
    return wide;
}

inline void narrow(const Wide& wide, const Stored& x) {
    void* data = alias(x.data);
    for (std::int64_t j = 0; j < x.cols; ++j) {
        for (std::int64_t i = 0; i < x.rows; ++i) store(x.type, data, j * x.leading_dimension + i, wide(i, j));
    }
}

/// alpha A B, plus beta C where beta is not 0: then, and only then, C is read.
inline Wide multiply(double alpha, const Wide& a, const Wide& b, double beta, const Stored& c) {
    Wide result = beta == 0 ? Wide(a.rows, b.cols) : widen(c);
    for (double& value : result.values) value *= beta;
    for (std::int64_t j = 0; j < b.cols; ++j) {
        for (std::int64_t k = 0; k < a.cols; ++k) {
            const double factor = alpha * b(k, j);
            for (std::int64_t i = 0; i < a.rows; ++i) result(i, j) += factor * a(i, k);
        }
    }
    return result;
}

}  // namespace emulation
