// generate - the gated MLP (SwiGLU, Shazeer 2020): down(silu(gate(x)) * up(x)).
// SPDX-License-Identifier: MIT
#pragma once

#include "activations.hpp"
#include "config.hpp"
#include "weights.hpp"

#include <lowrank/linear_group.hpp>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace engine {

template <lowrank::Scalar T>
class Mlp {
public:
    static Mlp load(const lowrank::ModelFolder& model, const std::string& module, const ModelConfig& config) {
        const auto linear = [&](const char* name, std::int64_t d_in, std::int64_t d_out) {
            return load_linear<T>(model, module + name, d_in, d_out, config.mlp_bias);
        };
        std::vector<AnyLinear<T>> gate_up;
        gate_up.push_back(linear(".gate_proj", config.hidden, config.intermediate));
        gate_up.push_back(linear(".up_proj", config.hidden, config.intermediate));
        return Mlp(std::move(gate_up), linear(".down_proj", config.intermediate, config.hidden));
    }

    /// at.gate and at.up, of this input.
    void expand(const Pass<T>& pass, const lowrank::Matrix<T>& input) const {
        const std::array results = {pass.used(pass.at.gate), pass.used(pass.at.up)};
        gate_up_.forward(pass.context, pass.input(input), std::span(results), pass.workspace);
    }
    /// at.branch, of at.gate and at.up.
    void finish(const Pass<T>& pass) const {
        activate(pass);
        contract(pass);
    }

    /// The two halves of finish(): at.down_input, of at.gate and at.up; at.branch, of at.down_input.
    void activate(const Pass<T>& pass) const {
        pass.each_row([&](std::int64_t row) {
            pass.kernels.gated_silu(pass.at.gate.row(row), pass.at.up.row(row), pass.at.gate.cols(),
                                    pass.at.down_input.row(row));
        });
    }
    void contract(const Pass<T>& pass) const {
        const std::array results = {pass.used(pass.at.branch)};
        down_proj_.forward(pass.context, pass.input(pass.at.down_input), std::span(results), pass.workspace);
    }

    /// Other layers of the same shapes: gate and up; down.
    void set_gate_up(std::vector<AnyLinear<T>> layers) { gate_up_ = lowrank::LinearGroup<T>(std::move(layers)); }
    void set_down(AnyLinear<T> layer) { down_proj_ = lowrank::LinearGroup<T>(std::move(layer)); }

    template <class F>
    void each_linear(F&& visit) const {
        visit("gate_proj", gate_up_.layers()[0]);
        visit("up_proj", gate_up_.layers()[1]);
        visit("down_proj", down_proj_.layers()[0]);
    }
    template <class F>
    void each_group(F&& visit) const {
        visit(gate_up_);
        visit(down_proj_);
    }

private:
    Mlp(std::vector<AnyLinear<T>> gate_up, AnyLinear<T> down)
        : gate_up_(std::move(gate_up)), down_proj_(std::move(down)) {}

    lowrank::LinearGroup<T> gate_up_;
    lowrank::LinearGroup<T> down_proj_;
};

}  // namespace engine
