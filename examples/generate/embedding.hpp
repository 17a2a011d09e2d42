// generate - the embedding's table, read from the mapped file a row at a time.
// SPDX-License-Identifier: MIT
#pragma once

#include "config.hpp"
#include "weights.hpp"

#include <lowrank/checkpoint/dtype.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/error.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

namespace engine {

inline constexpr const char* kEmbedding = "model.embed_tokens";
inline constexpr const char* kHead = "lm_head";

/// The module that turns the last hidden state into logits.
inline const char* head_module(const ModelConfig& config) {
    return config.tied_head ? kEmbedding : kHead;
}

class Embedding {
public:
    /// Borrows the folder's files.
    Embedding(const lowrank::ModelFolder& model, const ModelConfig& config)
        : table_(model.at(std::string(kEmbedding) + ".weight")), size_(config.hidden) {
        require_shape(model, std::string(kEmbedding) + ".weight",
                      {static_cast<std::uint64_t>(config.vocabulary), static_cast<std::uint64_t>(config.hidden)});
        if (!lowrank::is_scalar_dtype(dtype())) {
            throw lowrank::ValueError(lowrank::detail::path_text(model.folder()) + ": weights of type " +
                                      lowrank::detail::name_text(dtype()) +
                                      " cannot be used; F32, F64, BF16 and F16 can");
        }
    }

    [[nodiscard]] const std::string& dtype() const { return table_.info->dtype; }

    void row(std::int64_t token, float* out) const {
        lowrank::visit_scalar(dtype(), [&]<class From>(std::type_identity<From>) {
            const std::byte* from = table_.bytes().data() + static_cast<std::size_t>(token * size_) * sizeof(From);
            for (std::int64_t i = 0; i < size_; ++i) {
                From value;
                std::memcpy(&value, from + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
                out[i] = static_cast<float>(static_cast<lowrank::compute_t<From>>(value));
            }
        });
    }

private:
    lowrank::StoredTensor table_;
    std::int64_t size_;
};

}  // namespace engine
