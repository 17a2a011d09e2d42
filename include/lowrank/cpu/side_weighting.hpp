// lowrank - what weighs one side of a weight in a decomposition: the Gram matrix of its statistics, and its root.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gram_root.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace lowrank::cpu {

/// The matrix N = mean(X^T X) + damping mean(diagonal) I of a layer's inputs or of the gradients at its outputs. Its
/// root is made when it is first asked for, and kept: layers that read one input share it.
class SideWeighting {
public:
    /// Weighs like the identity.
    SideWeighting() = default;
    /// Borrows the moments, which must be valid (Moments::require_valid). Zero ones weigh like the identity.
    explicit SideWeighting(const Moments& moments, double damping = 0) : damping_(damping) {
        if (diagonal_sum(moments) > 0) moments_ = &moments;
    }

    explicit SideWeighting(Moments&&, double = 0) = delete;

    [[nodiscard]] bool identity() const { return moments_ == nullptr; }

    /// Null for the identity. Not for two threads at once: the first call makes it.
    [[nodiscard]] const GramRoot* root(const Context& context) {
        if (!root_ && moments_ != nullptr) root_ = gram_root(context, *moments_, damping_);
        return root_ ? &*root_ : nullptr;
    }

    /// What N is made of; null for the identity.
    [[nodiscard]] const Moments* moments() const { return moments_; }
    /// What N's diagonal has more than the mean over the rows of the moments. Not of the identity.
    [[nodiscard]] double added() const {
        return damping_ * diagonal_sum(*moments_) / (static_cast<double>(moments_->width()) * tokens());
    }
    /// The rows: what the moments are divided by. Not of the identity.
    [[nodiscard]] double tokens() const { return static_cast<double>(std::max<std::int64_t>(moments_->rows(), 1)); }

private:
    [[nodiscard]] static double diagonal_sum(const Moments& moments) {
        double sum = 0;
        for (std::int64_t i = 0; i < moments.width(); ++i) sum += moments.gram()(i, i);
        return sum;
    }

    const Moments* moments_ = nullptr;
    double damping_ = 0;
    std::optional<GramRoot> root_;
};

/// Of both sides of a weight. Borrowed, and their roots made where they are needed.
struct Weighting {
    SideWeighting& input;
    SideWeighting& gradient;
};

}  // namespace lowrank::cpu
