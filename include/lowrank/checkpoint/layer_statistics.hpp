// lowrank - the statistics of a model's layers as the decomposition takes them: checked against the model, as roots.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose_calibrated.hpp>
#include <lowrank/cpu/gram_root.hpp>
#include <lowrank/decompose_calibrated.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <cstdint>
#include <string>

namespace lowrank::detail {

/// Borrows the statistics, and keeps the root of the last input, which q, k and v share.
class LayerStatisticsReader {
public:
    /// `gradients`: use those that there are.
    LayerStatisticsReader(const Statistics& statistics, bool gradients)
        : statistics_(statistics), gradients_(gradients) {}

    /// Throws ValueError if there are none for this layer, ShapeError if they do not fit its weight.
    void require(const ModelFolder& model, const PlannedLayer& layer) const {
        const std::string of = path_text(statistics_.path()) + ": statistics of " + name_text(layer.module);
        if (statistics_.find(layer.module) == nullptr) throw ValueError(of + " are missing");
        const auto fit = [&](std::int64_t width, std::int64_t wanted, const char* what) {
            if (width == wanted) return;
            throw ShapeError(of + " are of " + std::to_string(width) + " " + what + ", but its weight in " +
                             path_text(model.folder()) + " is d_in x d_out = " + shape_string(layer.d_in, layer.d_out));
        };
        fit(statistics_.d_in(layer.module), layer.d_in, "inputs");
        if (has_gradients(layer.module)) fit(statistics_.d_out(layer.module), layer.d_out, "outputs");
    }

    /// Whether they are used for this layer.
    [[nodiscard]] bool has_gradients(const std::string& module) const {
        return gradients_ && statistics_.find(module)->gradient_tokens > 0;
    }

    /// The layer's roots, valid until the next call. Throws ValueError for sums that no tokens can have.
    [[nodiscard]] cpu::Weighting roots(const cpu::Context& context, const std::string& module) {
        const std::string& name = statistics_.find(module)->input;
        if (name != input_name_) {
            input_name_.clear();
            input_ = cpu::gram_root(context, *statistics_.input(module));
            input_name_ = name;
        }
        gradient_ = {};
        if (has_gradients(module)) {
            gradient_ = cpu::gram_root(context, *statistics_.gradient(module), Calibration{}.damping);
        }
        return {&input_, &gradient_};
    }

private:
    const Statistics& statistics_;
    bool gradients_;
    std::string input_name_;
    cpu::GramRoot input_;
    cpu::GramRoot gradient_;
};

}  // namespace lowrank::detail
