// The instantiations that eigen_solvers.hpp announces.
#include "eigen_solvers.hpp"

template class Eigen::BDCSVD<Eigen::MatrixXd>;
template class Eigen::JacobiSVD<Eigen::MatrixXd>;
