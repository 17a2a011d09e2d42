// generate - the gradient through a norm.
// SPDX-License-Identifier: MIT
#pragma once

#include "backward_kernels.hpp"
#include "norm.hpp"

#include <cstdint>

namespace engine {

/// Of one row: from the gradient at norm(x), the gradient at x in its place.
inline void norm_backward(const BackwardKernels& kernels, const Norm& norm, const float* x, float* gradient) {
    const auto size = static_cast<std::int64_t>(norm.weight().size());
    (norm.centred() ? kernels.layer_norm : kernels.rms_norm)(x, norm.weight().data(), norm.epsilon(), size, gradient);
}

}  // namespace engine
