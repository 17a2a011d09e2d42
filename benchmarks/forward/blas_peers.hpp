// bench_forward's peers of BLAS kind: Eigen, and OpenBLAS where it is found. In float.
// SPDX-License-Identifier: MIT
#pragma once

#include "own.hpp"

#include <Eigen/Core>

#ifdef BENCH_OPENBLAS
#include <cblas.h>
#endif

namespace bench {

/// Y = X W for row-major matrices without gaps.
using Multiply = void (*)(const float* x, const float* w, float* y, std::int64_t n, std::int64_t k, std::int64_t m);

inline void multiply_eigen(const float* x, const float* w, float* y, std::int64_t n, std::int64_t k, std::int64_t m) {
    using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Map<const Rows> wide(w, k, m);
    if (n == 1) {  // Eigen takes its matrix-vector kernel only if the type says that it is a vector
        Eigen::Map<Eigen::RowVectorXf>(y, m).noalias() = Eigen::Map<const Eigen::RowVectorXf>(x, k) * wide;
    } else {
        Eigen::Map<Rows>(y, n, m).noalias() = Eigen::Map<const Rows>(x, n, k) * wide;
    }
}

#ifdef BENCH_OPENBLAS
inline void multiply_openblas(const float* x, const float* w, float* y, std::int64_t n, std::int64_t k,
                              std::int64_t m) {
    const auto rows = static_cast<int>(n);
    const auto inner = static_cast<int>(k);
    const auto cols = static_cast<int>(m);
    if (n == 1) {
        cblas_sgemv(CblasRowMajor, CblasTrans, inner, cols, 1, w, cols, x, 1, 0, y, 1);
    } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, inner, 1, x, inner, w, cols, 0, y, cols);
    }
}
#endif

/// NAME and NAME:dense, over plain copies of the weights.
inline void add_blas_peer(std::vector<Contender>& contenders, const std::string& name, Multiply multiply, const Case& c,
                          const Data<float>& data, const lowrank::Matrix<float>& x) {
    using Weights = std::vector<lowrank::Matrix<float>>;
    const auto w1 = std::make_shared<Weights>(c.copies(4 * c.low_rank_parameters()), data.w1);
    const auto w2 = std::make_shared<Weights>(c.copies(4 * c.low_rank_parameters()), data.w2);
    const auto w = std::make_shared<Weights>(c.copies(4 * c.dense_parameters()), data.w);
    const auto middle = std::make_shared<lowrank::Matrix<float>>(c.rows, c.rank);
    const auto y = std::make_shared<lowrank::Matrix<float>>(c.rows, c.d_out);
    const auto turn = std::make_shared<std::size_t>(0);
    contenders.push_back({name, [=, &x](double seconds) {
                              return time_calls(seconds, *turn, [&](std::size_t i) {
                                  const std::size_t layer = i % w1->size();
                                  multiply(x.data(), (*w1)[layer].data(), middle->data(), c.rows, c.d_in, c.rank);
                                  multiply(middle->data(), (*w2)[layer].data(), y->data(), c.rows, c.rank, c.d_out);
                              });
                          }});
    contenders.push_back({name + ":dense", [=, &x](double seconds) {
                              return time_calls(seconds, *turn, [&](std::size_t i) {
                                  multiply(x.data(), (*w)[i % w->size()].data(), y->data(), c.rows, c.d_in, c.d_out);
                              });
                          }});
}

inline void add_blas_peers(std::vector<Contender>& contenders, const Case& c, const Data<float>& data,
                           const lowrank::Matrix<float>& x) {
    add_blas_peer(contenders, "eigen", multiply_eigen, c, data, x);
#ifdef BENCH_OPENBLAS
    add_blas_peer(contenders, "openblas", multiply_openblas, c, data, x);
#endif
}

}  // namespace bench
