// lowrank - the full singular value decomposition by Eigen: the only file that includes Eigen/SVD.
// SPDX-License-Identifier: MIT
//
// Divide and conquer (Gu, Eisenstat 1995), which costs about 20 n^3 operations, with one-sided Jacobi (Demmel,
// Veselic 1992) for small matrices and where divide and conquer fails its check. Of a tall matrix it is R of A = Q R
// that is decomposed, which then costs half (Chan 1982).
#pragma once

#include <lowrank/cpu/checked_svd.hpp>
#include <lowrank/cpu/eigen_threads.hpp>
#include <lowrank/cpu/svd_result.hpp>
#include <lowrank/matrix.hpp>

#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <optional>
#include <utility>

namespace lowrank::cpu::detail {

/// By a solver of Eigen's; false if it failed.
template <class Solver, class T>
bool svd_by(const EigenMatrix<T>& a, ThinSvd<T>& result) {
    const Solver solver(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
    if (solver.info() != Eigen::Success) return false;
    const auto& s = solver.singularValues();
    result = {solver.matrixU(), solver.matrixV(), {s.data(), s.data() + s.size()}};
    return true;
}

template <class T>
bool divide_and_conquer(const EigenMatrix<T>& tall, ThinSvd<T>& result) {
    using Solver = Eigen::BDCSVD<EigenMatrix<T>>;
    constexpr Eigen::Index kJacobiUpTo = 16;  // Eigen's own threshold for switching to Jacobi inside BDCSVD
    if (tall.cols() <= kJacobiUpTo) return false;
    // At 1.25 both ways take as long.
    if (4 * tall.rows() <= 5 * tall.cols()) return svd_by<Solver>(tall, result);
    const Eigen::HouseholderQR<EigenMatrix<T>> qr(tall);
    const EigenMatrix<T> r = qr.matrixQR().topRows(tall.cols()).template triangularView<Eigen::Upper>();
    if (!svd_by<Solver>(r, result)) return false;
    EigenMatrix<T> u = EigenMatrix<T>::Zero(tall.rows(), tall.cols());
    u.topRows(tall.cols()) = result.u;
    u.applyOnTheLeft(qr.householderQ());
    result.u = std::move(u);
    return true;
}

/// Every singular value and vector of A, which must be finite, to working accuracy; nothing if no method converges.
/// About 4 copies of A in memory. Runs on one thread.
template <ComputeScalar T>
std::optional<Svd<T>> eigen_svd(MatrixView<const T> a) {
    [[maybe_unused]] const OneEigenThread one_thread;
    return checked_svd<T>(a, divide_and_conquer<T>, svd_by<Eigen::JacobiSVD<EigenMatrix<T>>, T>);
}

}  // namespace lowrank::cpu::detail
