// lowrank - the statistics of a model's layers as the decomposition takes them, checked against the model.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/calibration.hpp>
#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/decompose_calibrated.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <cstdint>
#include <string>

namespace lowrank::detail {

/// Borrows the statistics, and keeps the last input's, whose root q, k and v share.
class LayerStatisticsReader {
public:
    /// `gradients`: use those that there are.
    LayerStatisticsReader(const Statistics& statistics, bool gradients)
        : statistics_(statistics), gradients_(gradients) {}
    /// Of the same statistics, none of which it has read: what it keeps is not to be shared.
    LayerStatisticsReader(const LayerStatisticsReader& other)
        : LayerStatisticsReader(other.statistics_, other.gradients_) {}
    LayerStatisticsReader& operator=(const LayerStatisticsReader&) = delete;
    ~LayerStatisticsReader() = default;

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

    /// What weighs the layer's sides, valid until the next call. Throws ValueError for sums that no tokens can have.
    [[nodiscard]] cpu::Weighting weighting(const cpu::Context& context, const std::string& module) {
        const std::string& name = statistics_.find(module)->input;
        if (name != input_name_) {
            input_name_.clear();
            input_ = {};
            inputs_ = {};  // before the next are read
            inputs_ = *statistics_.input(module, context);
            input_ = cpu::SideWeighting(inputs_);
            input_name_ = name;
        }
        gradient_ = {};
        outputs_ = {};
        if (has_gradients(module)) {
            outputs_ = *statistics_.gradient(module, context);
            gradient_ = cpu::SideWeighting(outputs_, Calibration{}.damping);
        }
        return {input_, gradient_};
    }

private:
    const Statistics& statistics_;
    bool gradients_;
    std::string input_name_;
    Moments inputs_;
    Moments outputs_;
    cpu::SideWeighting input_;
    cpu::SideWeighting gradient_;
};

}  // namespace lowrank::detail
