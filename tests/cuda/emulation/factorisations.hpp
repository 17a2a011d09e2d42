// The numerical work of the emulated cuSOLVER, by Eigen in double.
#pragma once

#include "kernels.hpp"

#include <vector>

namespace emulation {

/// A = U diag(s) V^T, thin, s descending.
void svd(const Wide& a, Wide& u, std::vector<double>& s, Wide& v);

/// Eigenvalues, ascending, and eigenvectors of the symmetric matrix whose upper triangle A holds.
void symmetric_eigen(const Wide& a, std::vector<double>& w, Wide& vectors);
/// The upper triangle of A becomes R, A = R^T R. Returns 0, or the order of the first minor that is not positive.
int cholesky(Wide& a);
/// LAPACK's geqrf: R and the Householder vectors in A, and their factors.
void householder(Wide& a, std::vector<double>& tau);
/// LAPACK's orgqr: Q from what geqrf left.
void form_q(Wide& a, const std::vector<double>& tau);

}  // namespace emulation
