// lowrank - an orthonormal basis of a block's columns on the device.
// SPDX-License-Identifier: MIT
//
// Cholesky-QR twice (Yamamoto, Nakatsukasa, Yanagisawa, Fukaya 2015) with the Gram matrix in the compute type: cuBLAS
// has no product of floats into a double. Where the block is too ill-conditioned for that, Householder QR.
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/scratch.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/vendor/solver.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cuda::detail {

/// For column-major blocks of n rows and up to `columns` columns.
template <ComputeScalar C>
class Orthonormalizer {
public:
    Orthonormalizer(Context& context, std::int64_t n, std::int64_t columns, std::string name)
        : context_(context),
          n_(n),
          name_(std::move(name)),
          gram_(columns, columns),
          tau_(1, columns),
          info_(1, 1),
          cholesky_bytes_(vendor::potrf_workspace<C>(context.solver(), context.solver_parameters(), columns, name_)),
          cholesky_workspace_(1, static_cast<std::int64_t>(cholesky_bytes_.device)),
          cholesky_host_(cholesky_bytes_.host) {}
    Orthonormalizer(const Orthonormalizer&) = delete;
    Orthonormalizer& operator=(const Orthonormalizer&) = delete;

    /// q (n x q.rows(), column-major) becomes orthonormal to working accuracy.
    void run(Matrix<C, DeviceSpace>& q) {
        if (!cholesky_qr(q) || !cholesky_qr(q)) householder_qr(q);
    }

private:
    /// Least ratio of the pivots of R: Cholesky-QR twice needs a condition number well below u^-1/2, which is 4096 in
    /// float (8 kappa sqrt(m n) u <= 1 in the worst case; the pivots tell it within a small factor in practice).
    static constexpr C kLeastPivotRatio = std::is_same_v<C, float> ? C(1e-3) : C(1e-7);

    /// q = q R^-1. False, q unchanged, if q^T q is not positive definite to the tolerance.
    bool cholesky_qr(Matrix<C, DeviceSpace>& q) {
        const std::int64_t l = q.rows();
        vendor::gemm<C>(context_.blas(), l, l, n_, 1, {q.data(), n_, true}, {q.data(), n_}, 0, gram_.data(), l, name_);
        vendor::potrf(context_.solver(), context_.solver_parameters(), l, gram_.data(), cholesky_workspace_.data(),
                      cholesky_host_, cholesky_bytes_, info_.data(), name_);
        int info = 0;
        download(context_, info_.data(), 1, &info);
        if (info < 0) throw BackendError("potrf of " + name_ + " refused its argument " + std::to_string(-info));
        if (info > 0) return false;
        // The diagonal, as a matrix of one column with a long leading dimension.
        Matrix<C> pivots(l, 1);
        const SettleOnError settle(context_);
        copy(context_, MatrixView<const C, DeviceSpace>(gram_.data(), l, 1, l + 1), pivots.view());
        context_.synchronise(name_);
        const auto [least, most] = std::minmax_element(pivots.data(), pivots.data() + l);
        if (!(*least > kLeastPivotRatio * *most) || !is_finite(*most)) return false;
        vendor::solve_upper_right(context_.blas(), n_, l, gram_.data(), l, q.data(), n_, name_);
        return true;
    }

    void householder_qr(Matrix<C, DeviceSpace>& q) {
        const std::int64_t l = q.rows();
        const vendor::SolverWorkspace bytes =
            vendor::geqrf_workspace<C>(context_.solver(), context_.solver_parameters(), n_, l, name_);
        const int elements = vendor::orgqr_workspace<C>(context_.solver(), n_, l, q.data(), tau_.data(), name_);
        Matrix<std::byte, DeviceSpace> workspace(
            1, std::max(static_cast<std::int64_t>(bytes.device),
                        static_cast<std::int64_t>(elements) * static_cast<std::int64_t>(sizeof(C))));
        std::vector<std::byte> host(bytes.host);
        const SettleOnError settle(context_);
        int info = 0;
        vendor::geqrf(context_.solver(), context_.solver_parameters(), n_, l, q.data(), tau_.data(), workspace.data(),
                      host, bytes, info_.data(), name_);
        download(context_, info_.data(), 1, &info);
        if (info != 0) throw BackendError("geqrf of " + name_ + " refused its argument " + std::to_string(-info));
        vendor::orgqr(context_.solver(), n_, l, q.data(), tau_.data(), reinterpret_cast<C*>(workspace.data()), elements,
                      info_.data(), name_);
        download(context_, info_.data(), 1, &info);
        if (info != 0) throw BackendError("orgqr of " + name_ + " refused its argument " + std::to_string(-info));
    }

    Context& context_;
    std::int64_t n_;
    std::string name_;
    Matrix<C, DeviceSpace> gram_;
    Matrix<C, DeviceSpace> tau_;
    Matrix<int, DeviceSpace> info_;
    vendor::SolverWorkspace cholesky_bytes_;
    Matrix<std::byte, DeviceSpace> cholesky_workspace_;
    std::vector<std::byte> cholesky_host_;
};

}  // namespace lowrank::cuda::detail
