// lowrank - the layers of a model that share a budget of parameters, known by their shapes: what can be refused early.
// SPDX-License-Identifier: MIT
//
//     const lowrank::CompetingLayers layers(model, names);
//     const std::int64_t budget = layers.budget(0.8);    // throws for what no allocation can meet
#pragma once

#include <lowrank/allocate.hpp>
#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/error.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/rank_config.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lowrank {

class CompetingLayers {
public:
    /// The layers that `names` match, as in RankConfig. `options`: floor, cap and multiple of their ranks. Reads
    /// headers only. Throws as plan_compression does.
    CompetingLayers(const ModelFolder& model, std::span<const std::string> names, const AllocationOptions& options = {})
        : options_(options) {
        RankConfig config;
        // The rule is a placeholder that needs a spectrum: the ranks come from the allocation.
        for (const std::string& name : names) config.add(name, energy_kept(1));
        plan_ = plan_compression(model, config);
        for (const PlannedLayer& layer : plan_.layers) selected_ += layer.d_in * layer.d_out;
    }

    /// Nothing is measured yet; every layer counts as dense.
    [[nodiscard]] const CompressPlan& plan() const { return plan_; }
    /// Parameters of these layers.
    [[nodiscard]] std::int64_t selected() const { return selected_; }

    /// The budget that keeps this share of these layers' parameters, in (0, 1); or that leaves the whole model with at
    /// most `target` parameters. Throws ValueError for what no allocation can meet.
    [[nodiscard]] std::int64_t budget(double share) const {
        if (!(share > 0 && share < 1)) {
            throw ValueError("a share of " + std::to_string(share) + " of the parameters does not lie in (0, 1)");
        }
        return checked(static_cast<std::int64_t>(share * static_cast<double>(selected_)));
    }
    [[nodiscard]] std::int64_t budget_of_model(std::int64_t target) const {
        const std::int64_t rest = static_cast<std::int64_t>(plan_.before.parameters) - selected_;
        if (target <= rest) {
            throw ValueError("a model of " + std::to_string(target) + " parameters is out of reach: " +
                             std::to_string(rest) + " lie outside the selected layers");
        }
        return checked(target - rest);
    }

private:
    [[nodiscard]] std::int64_t checked(std::int64_t budget) const {
        std::vector<AllocationLayer> shapes;
        for (const PlannedLayer& layer : plan_.layers) shapes.push_back({layer.d_in, layer.d_out});
        check_budget(shapes, budget, options_);
        return budget;
    }

    AllocationOptions options_;
    CompressPlan plan_;
    std::int64_t selected_ = 0;
};

}  // namespace lowrank
