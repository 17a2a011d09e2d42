// generate - a language model in memory, whatever its storage type, and a text that runs through it.
// SPDX-License-Identifier: MIT
//
//     auto model = engine::load_model("SmolLM2-135M-Instruct");
//     auto session = model->start(cpu, {.capacity = 512, .rows = 128});
//     session->feed(prompt);
//     auto logits = session->logits(prompt.size() - 1, 1);
#pragma once

#include "config.hpp"

#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace engine {

using Token = std::int32_t;

enum class StorageType : std::uint8_t { f32, bf16, f16 };

constexpr std::string_view storage_name(StorageType type) {
    switch (type) {
        case StorageType::bf16: return "bf16";
        case StorageType::f16: return "f16";
        case StorageType::f32: break;
    }
    return "f32";
}

/// A text that grows from its beginning: the position in it, the keys and values so far, and all buffers. Uses the
/// context and the model that it was made of, which must live as long.
class Session {
public:
    virtual ~Session() = default;

    /// Appends tokens, at most rows() at a time. Allocates nothing for a single one. Throws ValueError if there are
    /// more, if one is outside the vocabulary or if the capacity is exceeded.
    virtual void feed(std::span<const Token> tokens) = 0;
    /// The logits after tokens [first, first + count) of those fed last, count x vocabulary; valid until the next call.
    /// `count` is at most kMostLogits.
    virtual lowrank::MatrixView<const float> logits(std::int64_t first, std::int64_t count) = 0;
    /// Forgets the text.
    virtual void restart() = 0;

    [[nodiscard]] virtual std::int64_t position() const = 0;
    [[nodiscard]] virtual std::int64_t capacity() const = 0;
    [[nodiscard]] virtual std::int64_t rows() const = 0;

    /// Rows of logits at a time: with large vocabularies a row is 200 kB.
    static constexpr std::int64_t kMostLogits = 64;
};

struct SessionSize {
    std::int64_t capacity = 0;  ///< tokens of text; at least 1
    std::int64_t rows = 1;      ///< tokens fed at a time; at least 1
};

class LanguageModel {
public:
    virtual ~LanguageModel() = default;

    [[nodiscard]] virtual const ModelConfig& config() const = 0;
    [[nodiscard]] virtual StorageType type() const = 0;
    /// Numbers that were trained; a tied table counts once.
    [[nodiscard]] virtual std::int64_t parameters() const = 0;
    /// Bytes of the packed linear layers, read once for each token.
    [[nodiscard]] virtual std::size_t weight_bytes() const = 0;
    /// How many of the linear layers are low-rank, and how many there are.
    [[nodiscard]] virtual std::int64_t low_rank_layers() const = 0;
    [[nodiscard]] virtual std::int64_t linear_layers() const = 0;

    [[nodiscard]] virtual std::unique_ptr<Session> start(const lowrank::cpu::Context& context,
                                                         SessionSize size) const = 0;
};

/// What the weights of a folder are stored in: of its embedding.
StorageType stored_type(const lowrank::ModelFolder& folder);

/// Loads a folder as Hugging Face lays it out, or as `compress` writes it, with the linear layers in `type` or, without
/// one, as they are stored. Throws a lowrank::Error that names the file, field or tensor.
std::unique_ptr<LanguageModel> load_model(const std::filesystem::path& folder, std::optional<StorageType> type = {});

}  // namespace engine
