// lowrank - the options of decompose(), apart from it so that the forward path need not include the decomposition.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/rank.hpp>

#include <cstdint>
#include <string>

namespace lowrank {

struct DecomposeOptions {
    RankRule rank;                               ///< fixed_rank(384), relative_error(0.1), ...
    WeightLayout layout = WeightLayout::in_out;  ///< how the weight lies in memory; out_in for PyTorch's
    Method method = Method::automatic;
    double excess = 1e-3;         ///< fast method: error at most (1 + excess) times the optimum
    bool singular_values = true;  ///< also return the singular values that are kept
    std::uint64_t seed = 0;       ///< of the fast method's random start
    std::string name = "weight";  ///< of the tensor, for error messages
};

}  // namespace lowrank
