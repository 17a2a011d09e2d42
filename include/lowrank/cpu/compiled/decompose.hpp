// lowrank - the decompositions that lowrank::compiled has compiled already, and the solvers below them.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/compiled/products.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose.hpp>
#include <lowrank/cpu/eigen_svd.hpp>
#include <lowrank/cpu/orthonormalize.hpp>
#include <lowrank/cpu/svd.hpp>
#include <lowrank/cpu/symmetric_eigen.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>
#include <lowrank/spectrum.hpp>

#include <cstdint>
#include <string>

/// `KIND` is `extern template` where these are announced, `template` where they are compiled.
#define LOWRANK_SOLVERS(KIND, T)                                                       \
    KIND SymmetricEigen<T> symmetric_eigen(const Context&, MatrixView<const T>, bool); \
    KIND void orthonormalize(const Context&, Matrix<T>&, Matrix<T>&, Orthonormal);     \
    KIND Svd<T> full_svd(const Context&, MatrixView<const T>, const std::string&);
#define LOWRANK_DECOMPOSE(KIND, S)                                                                             \
    KIND Factors<compute_t<S>> decompose_weight(const Context&, MatrixView<const S>, const DecomposeOptions&); \
    KIND Spectrum decompose_weight_spectrum(const Context&, MatrixView<const S>, std::int64_t, const DecomposeOptions&);
#define LOWRANK_EIGEN_SOLVERS(KIND)                                             \
    KIND bool divide_and_conquer(const EigenMatrix<double>&, ThinSvd<double>&); \
    KIND bool svd_by<Eigen::JacobiSVD<EigenMatrix<double>>>(const EigenMatrix<double>&, ThinSvd<double>&);

#ifdef LOWRANK_COMPILED
#ifdef LOWRANK_USE_LAPACK
#error "lowrank::compiled is without LAPACK: a program links it or lowrank::lapack, not both"
#endif
namespace lowrank::cpu {
LOWRANK_SOLVERS(extern template, float)
LOWRANK_SOLVERS(extern template, double)
LOWRANK_DECOMPOSE(extern template, float)
LOWRANK_DECOMPOSE(extern template, double)
LOWRANK_DECOMPOSE(extern template, bf16)
LOWRANK_DECOMPOSE(extern template, f16)
}  // namespace lowrank::cpu
#endif
// Apart, for programs with lowrank::lapack may link these.
#ifdef LOWRANK_COMPILED_EIGEN
namespace lowrank::cpu::detail {
LOWRANK_EIGEN_SOLVERS(extern template)
}  // namespace lowrank::cpu::detail
#endif
