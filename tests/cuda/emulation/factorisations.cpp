// The only file of the tests' CUDA part that includes Eigen's decompositions: they take long to compile.
#include "factorisations.hpp"

#include <Eigen/Core>
#include <Eigen/SVD>

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

}  // namespace emulation
