// Eigen's singular value decompositions, compiled once for all tests (eigen_solvers.cpp) where each use would otherwise
// cost a translation unit 12 seconds.
#pragma once

#include <Eigen/SVD>

extern template class Eigen::BDCSVD<Eigen::MatrixXf>;
extern template class Eigen::BDCSVD<Eigen::MatrixXd>;
extern template class Eigen::JacobiSVD<Eigen::MatrixXf>;
extern template class Eigen::JacobiSVD<Eigen::MatrixXd>;
