// Eigen's singular value decompositions, compiled once (eigen_solvers.cpp) where each use would otherwise cost a
// translation unit 12 seconds. A project with several units that decompose can do the same.
#pragma once

#include <Eigen/SVD>

extern template class Eigen::BDCSVD<Eigen::MatrixXd>;
extern template class Eigen::JacobiSVD<Eigen::MatrixXd>;
