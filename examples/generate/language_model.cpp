// generate - the decoder: embedding, blocks, final norm, head.
// SPDX-License-Identifier: MIT
#include "language_model.hpp"

#include "activations.hpp"
#include "block.hpp"
#include "embedding.hpp"
#include "kernels.hpp"
#include "norm.hpp"
#include "rope.hpp"
#include "weights.hpp"

#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/workspace.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace engine {

namespace {

template <lowrank::Scalar T>
struct Decoder {
    ModelConfig config;
    lowrank::ModelFolder folder;  // mapped: the embedding is read from it
    Embedding embedding;
    std::vector<Block<T>> blocks;
    Norm norm;
    lowrank::LinearGroup<T> head;

    Decoder(ModelConfig made_of, lowrank::ModelFolder opened)
        : config(std::move(made_of)),
          folder(std::move(opened)),
          embedding(folder, config),
          norm(Norm::load(folder, "model.norm", config, config.hidden, true)),
          head(load_linear<T>(folder, head_module(config), config.hidden, config.vocabulary, false)) {
        for (std::int64_t i = 0; i < config.layers; ++i) {
            blocks.push_back(Block<T>::load(folder, "model.layers." + std::to_string(i), config));
        }
        require_no_more_layers(folder, config);
    }

    template <class F>
    void each_linear(F&& visit) const {
        for (const Block<T>& block : blocks) {
            block.each_linear([&](const char* /*name*/, const AnyLinear<T>& layer) { visit(layer); });
        }
        visit(head.layers()[0]);
    }
    template <class F>
    void each_group(F&& visit) const {
        for (const Block<T>& block : blocks) block.each_group(visit);
        visit(head);
    }
};

template <lowrank::Scalar T>
class DecoderSession : public Session {
public:
    DecoderSession(const Decoder<T>& model, const lowrank::cpu::Context& context, SessionSize size)
        : model_(model),
          context_(context),
          kernels_(kernels_for<T>(context.isa())),
          float_kernels_(kernels_for<float>(context.isa())),
          capacity_(size.capacity),
          rows_(std::min(size.rows, size.capacity)),
          rope_(model.config.rope, capacity_),
          at_(model.config, rows_),
          scratch_(context.threads(), std::min(rows_, Attention<T>::kQueryBlock) * capacity_),
          logits_(std::min(rows_, kMostLogits), model.config.vocabulary) {
        for (std::int64_t i = 0; i < model.config.layers; ++i) caches_.emplace_back(model.config, capacity_);
        std::size_t bytes = 0;
        model.each_group([&](const lowrank::LinearGroup<T>& group) {
            // The workspace need not grow with the rows.
            for (const std::int64_t rows : {std::int64_t{1}, rows_}) {
                bytes = std::max(bytes, group.workspace_bytes(context, rows));
            }
        });
        static_cast<void>(workspace_.reserve(bytes));
    }

    void feed(std::span<const Token> tokens) override {
        const auto count = static_cast<std::int64_t>(tokens.size());
        if (count > rows_ || count > capacity_ - position_) {
            throw lowrank::ValueError("cannot take " + std::to_string(count) + " tokens: there is room for " +
                                      std::to_string(std::min(rows_, capacity_ - position_)));
        }
        for (const Token token : tokens) {
            if (token >= 0 && token < model_.config.vocabulary) continue;
            throw lowrank::ValueError("token " + std::to_string(token) + " is outside the vocabulary of " +
                                      std::to_string(model_.config.vocabulary));
        }
        fed_ = count;
        const Pass<T> pass = this->pass(count);
        for (std::int64_t row = 0; row < count; ++row) {
            model_.embedding.row(tokens[static_cast<std::size_t>(row)], at_.x.row(row));
        }
        for (std::size_t i = 0; i < model_.blocks.size(); ++i) model_.blocks[i].forward(pass, rope_, caches_[i]);
        position_ += count;
    }

    lowrank::MatrixView<const float> logits(std::int64_t first, std::int64_t count) override {
        if (first < 0 || count < 0 || first + count > fed_ || count > logits_.rows()) {
            throw lowrank::ValueError("there are no logits of " + std::to_string(count) + " tokens from token " +
                                      std::to_string(first) + " on");
        }
        const lowrank::MatrixView<float> out(logits_.data(), count, logits_.cols());
        for (std::int64_t row = 0; row < count; ++row) {
            model_.norm.apply(kernels_, at_.x.row(first + row), at_.head_input.row(row));
        }
        model_.head.forward(context_, {at_.head_input.data(), count, at_.head_input.cols()}, std::span(&out, 1),
                            workspace_.reserve(0));
        return out;
    }

    void restart() override { position_ = fed_ = 0; }
    [[nodiscard]] std::int64_t position() const override { return position_; }
    [[nodiscard]] std::int64_t capacity() const override { return capacity_; }
    [[nodiscard]] std::int64_t rows() const override { return rows_; }

private:
    Pass<T> pass(std::int64_t rows) {
        return {context_, kernels_, float_kernels_, at_, workspace_.reserve(0), scratch_, position_, rows};
    }

    const Decoder<T>& model_;
    const lowrank::cpu::Context& context_;
    Kernels<T> kernels_;
    Kernels<float> float_kernels_;
    std::int64_t capacity_;
    std::int64_t rows_;
    Rope rope_;
    std::vector<KvCache> caches_;
    Activations<T> at_;
    lowrank::Matrix<float> scratch_;
    lowrank::Matrix<float> logits_;
    lowrank::Workspace workspace_;
    std::int64_t position_ = 0;
    std::int64_t fed_ = 0;
};

template <lowrank::Scalar T>
class DecoderModel : public LanguageModel {
public:
    DecoderModel(ModelConfig config, lowrank::ModelFolder folder, StorageType type)
        : decoder_(std::move(config), std::move(folder)), type_(type) {}

    [[nodiscard]] const ModelConfig& config() const override { return decoder_.config; }
    [[nodiscard]] StorageType type() const override { return type_; }
    [[nodiscard]] std::int64_t parameters() const override {
        std::int64_t count = decoder_.norm.parameters();
        if (!decoder_.config.tied_head) count += decoder_.config.vocabulary * decoder_.config.hidden;
        for (const Block<T>& block : decoder_.blocks) count += block.norm_parameters();
        decoder_.each_linear([&](const AnyLinear<T>& layer) {
            count += std::visit([](const auto& l) { return l.parameters(); }, layer);
        });
        return count;
    }
    [[nodiscard]] std::size_t weight_bytes() const override {
        std::size_t bytes = 0;
        decoder_.each_linear([&](const AnyLinear<T>& layer) {
            bytes += std::visit([](const auto& l) { return l.weight_bytes(); }, layer);
        });
        return bytes;
    }
    [[nodiscard]] std::int64_t low_rank_layers() const override {
        std::int64_t count = 0;
        decoder_.each_linear([&](const AnyLinear<T>& layer) {
            count += std::holds_alternative<lowrank::LowRankLinear<T>>(layer) ? 1 : 0;
        });
        return count;
    }
    [[nodiscard]] std::int64_t linear_layers() const override {
        std::int64_t count = 0;
        decoder_.each_linear([&](const AnyLinear<T>& /*layer*/) { ++count; });
        return count;
    }
    [[nodiscard]] std::unique_ptr<Session> start(const lowrank::cpu::Context& context,
                                                 SessionSize size) const override {
        return std::make_unique<DecoderSession<T>>(decoder_, context, size);
    }

private:
    Decoder<T> decoder_;
    StorageType type_;
};

}  // namespace

StorageType stored_type(const lowrank::ModelFolder& folder) {
    const auto table = folder.find(std::string(kEmbedding) + ".weight");
    if (table && table->info->dtype == "BF16") return StorageType::bf16;
    if (table && table->info->dtype == "F16") return StorageType::f16;
    return StorageType::f32;
}

std::unique_ptr<LanguageModel> load_model(const std::filesystem::path& path, std::optional<StorageType> type) {
    lowrank::ModelFolder folder(path);
    ModelConfig config = read_config(path);
    const StorageType made = type.value_or(stored_type(folder));
    switch (made) {
        case StorageType::bf16:
            return std::make_unique<DecoderModel<lowrank::bf16>>(std::move(config), std::move(folder), made);
        case StorageType::f16:
            return std::make_unique<DecoderModel<lowrank::f16>>(std::move(config), std::move(folder), made);
        case StorageType::f32: break;
    }
    return std::make_unique<DecoderModel<float>>(std::move(config), std::move(folder), made);
}

}  // namespace engine
