// generate - the gated MLP (SwiGLU, Shazeer 2020): down(silu(gate(x)) * up(x)).
// SPDX-License-Identifier: MIT
#pragma once

#include "activations.hpp"
#include "config.hpp"
#include "weights.hpp"

#include <cstdint>
#include <string>
#include <utility>

namespace engine {

template <lowrank::Scalar T>
class Mlp {
public:
    static Mlp load(const lowrank::ModelFolder& model, const std::string& module, const ModelConfig& config) {
        const auto linear = [&](const char* name, std::int64_t d_in, std::int64_t d_out) {
            return AnyLinear<T>::load(model, module + name, d_in, d_out, config.mlp_bias);
        };
        return Mlp{linear(".gate_proj", config.hidden, config.intermediate),
                   linear(".up_proj", config.hidden, config.intermediate),
                   linear(".down_proj", config.intermediate, config.hidden)};
    }

    /// at.branch = mlp(input).
    void forward(const Pass<T>& pass, const lowrank::Matrix<T>& input) const {
        expand(pass, input);
        activate(pass);
        contract(pass);
    }

    template <class F>
    void each_linear(F&& visit) const {
        visit("gate_proj", gate_proj_);
        visit("up_proj", up_proj_);
        visit("down_proj", down_proj_);
    }

private:
    Mlp(AnyLinear<T> gate, AnyLinear<T> up, AnyLinear<T> down)
        : gate_proj_(std::move(gate)), up_proj_(std::move(up)), down_proj_(std::move(down)) {}

    void expand(const Pass<T>& pass, const lowrank::Matrix<T>& input) const {
        gate_proj_.forward(pass.context, pass.input(input), pass.used(pass.at.gate), pass.workspace);
        up_proj_.forward(pass.context, pass.input(input), pass.used(pass.at.up), pass.workspace);
    }

    void activate(const Pass<T>& pass) const {
        pass.each_row([&](std::int64_t row) {
            pass.kernels.gated_silu(pass.at.gate.row(row), pass.at.up.row(row), pass.at.gate.cols(),
                                    pass.at.down_input.row(row));
        });
    }

    void contract(const Pass<T>& pass) const {
        down_proj_.forward(pass.context, pass.input(pass.at.down_input), pass.used(pass.at.branch), pass.workspace);
    }

    AnyLinear<T> gate_proj_, up_proj_, down_proj_;
};

}  // namespace engine
