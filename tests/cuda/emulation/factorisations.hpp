// The numerical work of the emulated cuSOLVER, by Eigen in double.
#pragma once

#include "kernels.hpp"

#include <vector>

namespace emulation {

/// A = U diag(s) V^T, thin, s descending.
void svd(const Wide& a, Wide& u, std::vector<double>& s, Wide& v);

}  // namespace emulation
