// generate - tensors of a model by name, with the shapes that its config asks for.
// SPDX-License-Identifier: MIT
#pragma once

#include "config.hpp"

#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/error.hpp>
#include <lowrank/linear.hpp>
#include <lowrank/linear_group.hpp>
#include <lowrank/low_rank_linear.hpp>
#include <lowrank/matrix.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace engine {

/// Throws ShapeError, naming the tensor, unless it has this shape.
inline void require_shape(const lowrank::ModelFolder& model, const std::string& name,
                          const std::vector<std::uint64_t>& shape) {
    const std::vector<std::uint64_t>& found = model.at(name).info->shape;
    if (found == shape) return;
    throw lowrank::ShapeError(lowrank::detail::path_text(model.folder()) + ": tensor " +
                              lowrank::detail::name_text(name) + " has the shape " +
                              lowrank::detail::shape_text(found) + ", but config.json asks for " +
                              lowrank::detail::shape_text(shape));
}

/// Throws FormatError where the folder has a layer beyond those of its config: the two are of different models.
inline void require_no_more_layers(const lowrank::ModelFolder& model, const ModelConfig& config) {
    const std::string beyond = "model.layers." + std::to_string(config.layers) + ".";
    for (const auto& [name, tensor] : model.tensors()) {
        if (!name.starts_with(beyond)) continue;
        throw lowrank::FormatError(lowrank::detail::path_text(model.folder()) + ": there is a tensor " +
                                   lowrank::detail::name_text(name) + ", but config.json asks for " +
                                   std::to_string(config.layers) + " layers");
    }
}

inline std::vector<float> load_vector(const lowrank::ModelFolder& model, const std::string& name, std::int64_t size) {
    require_shape(model, name, {static_cast<std::uint64_t>(size)});
    const lowrank::StoredTensor tensor = model.at(name);
    std::vector<float> values(static_cast<std::size_t>(size));
    tensor.shard->copy(*tensor.info, std::span<float>(values));
    return values;
}

template <lowrank::Scalar T>
lowrank::Matrix<T> load_matrix(const lowrank::ModelFolder& model, const std::string& name, std::int64_t rows,
                               std::int64_t cols) {
    require_shape(model, name, {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)});
    const lowrank::StoredTensor tensor = model.at(name);
    lowrank::Matrix<T> values = tensor.matrix<T>();
    tensor.shard->release(*tensor.info);  // it is packed next, and not read from the file again
    return values;
}

/// A linear layer of a model, dense or low-rank.
template <lowrank::Scalar T>
using AnyLinear = typename lowrank::LinearGroup<T>::Layer;

/// MODULE.weight (d_out x d_in), or MODULE.w1 (d_out x r) and MODULE.w2 (r x d_in), as `compress` writes them; with
/// MODULE.bias if `biased`.
template <lowrank::Scalar T>
AnyLinear<T> load_linear(const lowrank::ModelFolder& model, const std::string& module, std::int64_t d_in,
                         std::int64_t d_out, bool biased) {
    const auto bias = [&] { return biased ? load_vector(model, module + ".bias", d_out) : std::vector<float>(); };
    const auto factor = model.find(module + ".w2");
    if (!factor || factor->info->shape.size() != 2) {
        const auto weight = load_matrix<T>(model, module + ".weight", d_out, d_in);
        return lowrank::Linear<T>(weight.view(), lowrank::WeightLayout::out_in, bias());
    }
    const auto rank = static_cast<std::int64_t>(factor->info->shape[0]);
    const auto w2_of_file = load_matrix<T>(model, module + ".w2", rank, d_in);  // W1^T of the library
    const auto w1_of_file = load_matrix<T>(model, module + ".w1", d_out, rank);
    return lowrank::LowRankLinear<T>(w2_of_file.view(), w1_of_file.view(), lowrank::WeightLayout::out_in, bias());
}

/// A linear layer's weight as files have it, d_out x d_in; of a low-rank layer the product of its factors.
inline lowrank::Matrix<float> load_whole_weight(const lowrank::cpu::Context& context, const lowrank::ModelFolder& model,
                                                const std::string& module, std::int64_t d_in, std::int64_t d_out) {
    const auto factor = model.find(module + ".w2");
    if (!factor || factor->info->shape.size() != 2) return load_matrix<float>(model, module + ".weight", d_out, d_in);
    const auto rank = static_cast<std::int64_t>(factor->info->shape[0]);
    const auto w1 = load_matrix<float>(model, module + ".w1", d_out, rank);
    const auto w2 = load_matrix<float>(model, module + ".w2", rank, d_in);
    lowrank::Matrix<float> product(d_out, d_in);
    gemm(context, 1.0F, w1, lowrank::cpu::Transpose::no, w2, lowrank::cpu::Transpose::no, 0.0F, product.view());
    return product;
}

}  // namespace engine
