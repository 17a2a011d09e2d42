// lowrank - decompose() with a calibration: W ~ W1 W2, closest where the model's inputs and its loss notice.
// SPDX-License-Identifier: MIT
//
// Mathematics. With H = X^T X / n = S_H S_H^T of the layer's inputs and G = D^T D / n, + damping mean(diag G) I,
// = S_G S_G^T of the loss's gradients D at its outputs, the factors of rank r minimise
//     || S_H^T (W - W1 W2) S_G ||_F,
// the change of the outputs over the calibration text, weighted by what the loss makes of it (Martens, Grosse 2015;
// Chekalina et al. 2025). With V_r the leading right singular vectors of M = S_H^T W S_G, they are W1 = W S_G V_r and
// W2 = V_r^T S_G^-1; no inverse of H is needed, so H may be singular. Half the square of the error estimates the loss
// added, in nats per token. Without gradients S_G = I, and it is || X (W - W1 W2) ||_F / sqrt(n) that is minimised.
// A zero H or G says nothing, and weighs like the identity.
//
// Any S with S S^T = H serves; it is a Cholesky factor here (gram_root.hpp), so the whole costs little more than
// decompose() itself: O(d_in^3 + d_out^3) / 3 for the roots and d_in d_out (d_in + d_out) for M, both products.
// M is factorised by decompose(), exact or fast, with its `excess` in the weighted norm. Where one side of the weight
// is 1.5 times as long as the other or more, the fast method needs the root of the shorter side alone, and a product
// with the longer one's statistics (cpu/weighted_gram.hpp), which takes less than half of the time at 2560 x 6912. For
// the fast method M, or that product, may be formed of rounded operands (gemm.hpp), whose measured cost is counted to
// the excess.
//
// Errors. As decompose(), and ShapeError if the widths of the statistics are not those of the weight, ValueError for
// statistics that are not finite and for a damping that is not above 0.
//
//     lowrank::Moments inputs(d_in);
//     for (const auto& x : batches) inputs.add(cpu, x);
//     auto factors = lowrank::decompose(cpu, W, {.input = &inputs}, {.rank = lowrank::fixed_rank(384)});
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/decompose_calibrated.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/decompose.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lowrank {

/// What calibrates the decomposition of one layer. Borrowed; null where it is not known.
struct Calibration {
    const Moments* input = nullptr;     ///< of the layer's inputs, d_in wide
    const Moments* gradient = nullptr;  ///< of the loss's gradients at its outputs, d_out wide
    /// Of G, which is inverted. Ten times as much changes SmolLM2's perplexity by 0.2 %: docs/results/data-aware.md.
    double damping = 1e-2;
};

/// Factorises `weight` (as decompose() takes it) in the norm of the calibration. The same factors for any number of
/// threads.
template <class Weight>
requires MatrixIn<Weight, HostSpace>
auto decompose(const cpu::Context& context, const Weight& weight, const Calibration& calibration,
               const DecomposeOptions& options) {
    const auto stored = const_view(weight);
    const bool in_out = options.layout == WeightLayout::in_out;
    const std::int64_t d_in = in_out ? stored.rows() : stored.cols();
    const std::int64_t d_out = in_out ? stored.cols() : stored.rows();
    const auto check = [&](const Moments* moments, std::int64_t width, const char* what) {
        if (moments == nullptr) return;
        if (moments->width() == width) {
            moments->require_valid("the sums over " + options.name + "'s " + what, context);
            return;
        }
        throw ShapeError(options.name + ", " + shape_string(d_in, d_out) + ", has " + std::to_string(width) + " " +
                         what + ", but its statistics are of " + std::to_string(moments->width()));
    };
    check(calibration.input, d_in, "inputs");
    check(calibration.gradient, d_out, "outputs");
    cpu::SideWeighting input;
    cpu::SideWeighting gradient;
    if (calibration.input != nullptr) input = cpu::SideWeighting(*calibration.input);
    if (calibration.gradient != nullptr) {
        if (!(calibration.damping > 0) || !is_finite(calibration.damping)) {
            throw ValueError("a damping of " + std::to_string(calibration.damping) +
                             " does not make the gradients' matrix invertible: it must be a number above 0");
        }
        gradient = cpu::SideWeighting(*calibration.gradient, calibration.damping);
    }
    return cpu::decompose_weighted(context, stored, {input, gradient}, options);
}

/// What a layer's bias gains so that its mean output stays as it was: mu (W - W1 W2), with mu the mean input. The
/// decomposition that goes with it is calibrated by centred() inputs. O(d_in d_out + (d_in + d_out) r).
template <class Weight, ComputeScalar T>
requires MatrixIn<Weight, HostSpace> std::vector<T> bias_correction(const Weight& weight, WeightLayout layout,
                                                                    std::span<const double> mean,
                                                                    const Factors<T>& factors) {
    const auto stored = const_view(weight);
    const bool in_out = layout == WeightLayout::in_out;
    const std::int64_t d_in = in_out ? stored.rows() : stored.cols();
    const std::int64_t d_out = in_out ? stored.cols() : stored.rows();
    if (static_cast<std::int64_t>(mean.size()) != d_in || factors.d_in() != d_in || factors.d_out() != d_out) {
        throw ShapeError("a mean of " + std::to_string(mean.size()) + " inputs and factors of " +
                         shape_string(factors.d_in(), factors.d_out()) + " do not fit a weight of " +
                         shape_string(d_in, d_out));
    }
    std::vector<double> hidden(static_cast<std::size_t>(factors.rank()));
    std::vector<double> change(static_cast<std::size_t>(d_out));
    for (std::int64_t i = 0; i < d_in; ++i) {
        const double mu = mean[static_cast<std::size_t>(i)];
        for (std::int64_t k = 0; k < factors.rank(); ++k) {
            hidden[static_cast<std::size_t>(k)] += mu * static_cast<double>(factors.w1(i, k));
        }
        for (std::int64_t j = 0; j < d_out; ++j) {
            const auto entry = static_cast<compute_t<element_t<Weight>>>(in_out ? stored(i, j) : stored(j, i));
            change[static_cast<std::size_t>(j)] += mu * static_cast<double>(entry);
        }
    }
    for (std::int64_t k = 0; k < factors.rank(); ++k) {
        for (std::int64_t j = 0; j < d_out; ++j) {
            change[static_cast<std::size_t>(j)] -=
                hidden[static_cast<std::size_t>(k)] * static_cast<double>(factors.w2(k, j));
        }
    }
    return {change.begin(), change.end()};
}

}  // namespace lowrank
