// The only file of the tests' CUDA part that includes Eigen's decompositions: they take long to compile.
#include "factorisations.hpp"

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/SVD>

#include <cmath>

namespace emulation {

void svd(const Wide& a, Wide& u, std::vector<double>& s, Wide& v) {
    using Dense = Eigen::MatrixXd;
    const Eigen::Map<const Dense> dense(a.values.data(), a.rows, a.cols);
    const Eigen::JacobiSVD<Dense> solver(dense, Eigen::ComputeThinU | Eigen::ComputeThinV);
    u = Wide(a.rows, solver.matrixU().cols());
    v = Wide(a.cols, solver.matrixV().cols());
    Eigen::Map<Dense>(u.values.data(), u.rows, u.cols) = solver.matrixU();
    Eigen::Map<Dense>(v.values.data(), v.rows, v.cols) = solver.matrixV();
    s.assign(solver.singularValues().data(), solver.singularValues().data() + solver.singularValues().size());
}

void symmetric_eigen(const Wide& a, std::vector<double>& w, Wide& vectors) {
    using Dense = Eigen::MatrixXd;
    Dense dense(a.rows, a.rows);
    for (std::int64_t j = 0; j < a.rows; ++j) {
        for (std::int64_t i = 0; i <= j; ++i) dense(i, j) = dense(j, i) = a(i, j);
    }
    const Eigen::SelfAdjointEigenSolver<Dense> solver(dense);
    w.assign(solver.eigenvalues().data(), solver.eigenvalues().data() + a.rows);
    vectors = Wide(a.rows, a.rows);
    Eigen::Map<Dense>(vectors.values.data(), a.rows, a.rows) = solver.eigenvectors();
}

int cholesky(Wide& a) {
    for (std::int64_t j = 0; j < a.cols; ++j) {
        for (std::int64_t i = 0; i <= j; ++i) {
            double sum = a(i, j);
            for (std::int64_t k = 0; k < i; ++k) sum -= a(k, i) * a(k, j);
            if (i < j) {
                a(i, j) = sum / a(i, i);
            } else {
                if (!(sum > 0)) return static_cast<int>(j) + 1;
                a(j, j) = std::sqrt(sum);
            }
        }
    }
    return 0;
}

namespace {

/// Applies I - tau v v^T, v = (1, A(k+1:, k)), to the columns from `first` on.
void reflect(Wide& a, std::int64_t k, double tau, std::int64_t first) {
    for (std::int64_t j = first; j < a.cols; ++j) {
        double sum = a(k, j);
        for (std::int64_t i = k + 1; i < a.rows; ++i) sum += a(i, k) * a(i, j);
        a(k, j) -= tau * sum;
        for (std::int64_t i = k + 1; i < a.rows; ++i) a(i, j) -= tau * sum * a(i, k);
    }
}

}  // namespace

void householder(Wide& a, std::vector<double>& tau) {
    tau.assign(static_cast<std::size_t>(a.cols), 0);
    for (std::int64_t k = 0; k < a.cols; ++k) {
        double norm = 0;
        for (std::int64_t i = k; i < a.rows; ++i) norm += a(i, k) * a(i, k);
        norm = std::sqrt(norm);
        if (norm == 0) continue;
        const double beta = a(k, k) > 0 ? -norm : norm;
        tau[static_cast<std::size_t>(k)] = (beta - a(k, k)) / beta;
        for (std::int64_t i = k + 1; i < a.rows; ++i) a(i, k) /= a(k, k) - beta;
        reflect(a, k, tau[static_cast<std::size_t>(k)], k + 1);
        a(k, k) = beta;
    }
}

void form_q(Wide& a, const std::vector<double>& tau) {
    for (std::int64_t k = a.cols - 1; k >= 0; --k) {
        const double factor = tau[static_cast<std::size_t>(k)];
        reflect(a, k, factor, k + 1);
        for (std::int64_t i = k + 1; i < a.rows; ++i) a(i, k) *= -factor;
        for (std::int64_t i = 0; i < k; ++i) a(i, k) = 0;
        a(k, k) = 1 - factor;
    }
}

}  // namespace emulation
