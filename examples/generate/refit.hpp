// generate - fits a compressed model's factors to what flows through the compressed model, one block after the other.
// SPDX-License-Identifier: MIT
//
// Factors that are made for each layer on its own expect the inputs X of the dense model. In the compressed one the
// layer sees inputs Xc, which have drifted, and its outputs add to a residual stream that has drifted by R (to what
// layers q, k, v, gate and up write nothing is added: R = 0). The layer's best answer to both is
//     min || S_G^T ((Xc W' - X W - R)^T) ||_F    over W' of rank r.
// Without the rank, the normal equations solve it: W* = W + (Xc^T Xc)^-1 Xc^T ((X - Xc) W + R); then W' is the
// factorisation of W* in the norm of Xc^T Xc and G, since the rest of the error does not depend on W'. The damping of
// the inverse pulls W* to W. Two streams of the text are kept, one through the dense blocks and one through the new
// ones, and within a block each layer is fitted behind the new ones before it.
#pragma once

#include "calibrate.hpp"
#include "config.hpp"

#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/factor_store.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>

namespace engine {

struct Refit {
    const std::filesystem::path& model;  ///< the dense one
    const ModelConfig& config;
    std::span<const Token> tokens;
    std::int64_t window = 512;              ///< tokens that see each other
    StorageType type;                       ///< of the linear layers, f32 or bf16: see calibration_type()
    const lowrank::CompressPlan& plan;      ///< with each layer's choice; dense ones stay as they are
    const lowrank::Statistics& statistics;  ///< whose gradients weigh the outputs
    const lowrank::FactorStore& factors;    ///< of the layers on their own
};

/// Whether the engine can: a parallel residual has no order in which to fit.
bool can_refit(const ModelConfig& config);

/// New factors at the ranks of the plan, with the spectra of the old. The store keeps its data in `scratch`. Takes
/// memory for about 2 (2 hidden + intermediate) floats a token. Throws as calibrate() does.
lowrank::FactorStore refit(const lowrank::cpu::Context& context, const Refit& job, const std::filesystem::path& scratch,
                           const std::function<void(const CalibrationProgress&)>& progress);

}  // namespace engine
