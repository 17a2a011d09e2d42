// generate - calibration statistics: the order of the work.
// SPDX-License-Identifier: MIT
#include "calibrate.hpp"

#include "activations.hpp"
#include "block.hpp"
#include "block_backward.hpp"
#include "copy_rows.hpp"
#include "embedding.hpp"
#include "kernels.hpp"
#include "loss_backward.hpp"
#include "moment_sums.hpp"
#include "rope.hpp"

#include <lowrank/checkpoint/mapped_file.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/checkpoint/scratch_file.hpp>
#include <lowrank/checkpoint/statistics_writer.hpp>
#include <lowrank/error.hpp>
#include <lowrank/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <map>
#include <span>
#include <utility>

namespace engine {

namespace {

constexpr const char* kLayers[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                   "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

std::string block_module(std::int64_t block) {
    return "model.layers." + std::to_string(block);
}

/// A block's layers that read one input, the sums over which are stored under the first one's name.
template <lowrank::Scalar T>
struct SharedInput {
    std::vector<const char*> readers;
    lowrank::Matrix<T> Activations<T>::*input;
};

template <lowrank::Scalar T>
std::vector<SharedInput<T>> shared_inputs(const ModelConfig& config) {
    const SharedInput<T> output{{"self_attn.o_proj"}, &Activations<T>::output_input};
    const SharedInput<T> down{{"mlp.down_proj"}, &Activations<T>::down_input};
    SharedInput<T> attention{{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                             &Activations<T>::attention_input};
    if (config.parallel_residual) {
        attention.readers.insert(attention.readers.end(), {"mlp.gate_proj", "mlp.up_proj"});
        return {attention, output, down};
    }
    return {attention, output, {{"mlp.gate_proj", "mlp.up_proj"}, &Activations<T>::mlp_input}, down};
}

/// Operations for one token, about: what the remaining time is estimated from.
struct Costs {
    double forward = 0, backward = 0;  // of one block
    double loss = 0;

    explicit Costs(const ModelConfig& config) {
        const auto square = [](std::int64_t width) { return static_cast<double>(width) * static_cast<double>(width); };
        const auto hidden = static_cast<double>(config.hidden);
        const auto intermediate = static_cast<double>(config.intermediate);
        const double attention = hidden * static_cast<double>(2 * config.query_size() + 2 * config.kv_size());
        const double mlp = 3 * hidden * intermediate;
        const double inputs = 2 * square(config.hidden) + square(config.query_size()) + square(config.intermediate);
        const double outputs = square(config.query_size()) + 2 * square(config.kv_size()) + 2 * square(config.hidden) +
                               2 * square(config.intermediate);
        forward = 2 * (attention + mlp) + inputs;
        backward = 4 * (attention + mlp) - 2 * hidden * intermediate + outputs;
        loss = 4 * hidden * static_cast<double>(config.vocabulary);
    }
};

/// T is what linear layers are stored in and read.
template <lowrank::Scalar T>
class Calibration {
public:
    Calibration(const lowrank::cpu::Context& context, const std::filesystem::path& model, const ModelConfig& config,
                const CalibrationText& text, const CalibrationSize& size, const std::filesystem::path& out,
                const std::function<bool(const CalibrationProgress&)>& progress)
        : context_(context),
          folder_(model),
          config_(config),
          text_(text),
          window_(std::min(size.window, tokens())),
          gradient_tokens_(std::min(tokens(), (size.gradient_tokens + window_ - 1) / window_ * window_)),
          progress_(progress),
          costs_(config),
          total_(static_cast<double>(config.layers) * (static_cast<double>(tokens()) * costs_.forward +
                                                       static_cast<double>(gradient_tokens_) * costs_.backward) +
                 static_cast<double>(gradient_tokens_) * costs_.loss),
          kernels_(kernels_for<T>(context.isa())),
          float_kernels_(kernels_for<float>(context.isa())),
          rope_(config.rope, window_),
          cache_(config, window_),
          at_(config, window_),
          scratch_(context.threads(), std::min(window_, Attention<T>::kQueryBlock) * window_),
          x_(tokens(), config.hidden),
          blocks_(folder_of(out)),
          modules_(calibrated_modules(config)),
          writer_(out, modules_) {
        require_no_more_layers(folder_, config);
        for (const Token token : text.tokens) {
            if (token >= 0 && token < config.vocabulary) continue;
            throw lowrank::ValueError("token " + std::to_string(token) + " is outside the vocabulary of " +
                                      std::to_string(config.vocabulary));
        }
    }

    CalibrationResult run() {
        CalibrationResult result{static_cast<std::int64_t>(modules_.size()), tokens(), gradient_tokens_, false};
        if (!forward() || (gradient_tokens_ > 0 && !backward())) return result;
        writer_.commit({text_.hash});
        result.finished = true;
        return result;
    }

private:
    [[nodiscard]] std::int64_t tokens() const { return static_cast<std::int64_t>(text_.tokens.size()); }

    static std::filesystem::path folder_of(const std::filesystem::path& file) {
        return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
    }

    /// Calls body(first token, how many) for each window of the first `tokens`; false if it was interrupted.
    template <class F>
    bool each_window(std::int64_t tokens, CalibrationProgress state, double cost, F&& body) {
        for (std::int64_t first = 0; first < tokens; first += window_) {
            const std::int64_t rows = std::min(window_, tokens - first);
            body(first, rows);
            done_ += cost * static_cast<double>(rows);
            state.blocks = config_.layers;
            state.share = std::min(1.0, done_ / total_);
            if (!progress_(state)) return false;
        }
        return true;
    }

    [[nodiscard]] std::span<const Token> window_tokens(std::int64_t first, std::int64_t rows) const {
        return std::span(text_.tokens).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows));
    }

    Block<T> load_block(std::int64_t i) {
        Block<T> block = Block<T>::load(folder_, block_module(i), config_);
        std::size_t bytes = 0;
        block.each_group([&](const lowrank::LinearGroup<T>& group) {
            // The workspace need not grow with the rows.
            for (const std::int64_t rows : {std::int64_t{1}, window_}) {
                bytes = std::max(bytes, group.workspace_bytes(context_, rows));
            }
        });
        static_cast<void>(workspace_.reserve(bytes));
        return block;
    }

    /// With rows [first, first + rows) of x_ in the activations.
    Pass<T> begin_pass(std::int64_t first, std::int64_t rows) {
        copy_rows<float>(context_, x_.view().block(first, 0, rows, x_.cols()), at_.x.view());
        return {context_, kernels_, float_kernels_, at_, workspace_.reserve(0), scratch_, 0, rows};
    }

    /// The rows of the tokens with gradients.
    [[nodiscard]] std::span<float> gradient_rows() {
        return {x_.data(), static_cast<std::size_t>(gradient_tokens_ * x_.cols())};
    }

    bool forward() {
        const Embedding embedding(folder_, config_);
        for (std::int64_t i = 0; i < tokens(); ++i) embedding.row(text_.tokens[static_cast<std::size_t>(i)], x_.row(i));
        const std::vector<SharedInput<T>> inputs = shared_inputs<T>(config_);
        std::vector<MomentSums<T>> sums;
        for (const SharedInput<T>& input : inputs) sums.emplace_back((at_.*input.input).cols());
        for (std::int64_t i = 0; i < config_.layers; ++i) {
            stored_.push_back(blocks_.append(std::as_bytes(gradient_rows())));
            const Block<T> block = load_block(i);
            const bool went_on = each_window(tokens(), {"forward", i + 1}, costs_.forward, [&](auto first, auto rows) {
                const Pass<T> pass = begin_pass(first, rows);
                block.forward(pass, rope_, cache_);
                for (std::size_t k = 0; k < inputs.size(); ++k) {
                    sums[k].add(context_, pass.input(at_.*inputs[k].input));
                }
                copy_rows<float>(context_, at_.x.view().block(0, 0, rows, x_.cols()),
                                 x_.view().block(first, 0, rows, x_.cols()));
            });
            if (!went_on) return false;
            for (std::size_t k = 0; k < inputs.size(); ++k) write_input(i, inputs[k], sums[k]);
        }
        return true;
    }

    void write_input(std::int64_t block, const SharedInput<T>& input, MomentSums<T>& sums) {
        std::vector<std::string> readers;
        for (const char* reader : input.readers) readers.push_back(block_module(block) + "." + reader);
        writer_.write_input(readers.front(), readers, sums.take(context_, "the inputs of " + readers.front()));
    }

    bool backward() {
        lowrank::Matrix<float> gradient(gradient_tokens_, x_.cols());
        if (!loss_backward(gradient)) return false;
        std::map<std::string, MomentSums<float>> sums;
        BlockBackward backward(config_, context_, window_);
        for (std::int64_t i = config_.layers - 1; i >= 0; --i) {
            blocks_.read(stored_[static_cast<std::size_t>(i)], std::as_writable_bytes(gradient_rows()));
            const Block<T> block = load_block(i);
            const BlockWeights weights = BlockWeights::load(context_, folder_, block_module(i), config_);
            const auto window = [&](std::int64_t first, std::int64_t rows) {
                const Pass<T> pass = begin_pass(first, rows);
                backward.run(pass, block, weights, rope_, cache_,
                             gradient.view().block(first, 0, rows, gradient.cols()),
                             [&](const char* layer, lowrank::MatrixView<const float> at_output) {
                                 sums.try_emplace(layer, at_output.cols()).first->second.add(context_, at_output);
                             });
            };
            if (!each_window(gradient_tokens_, {"backward", i + 1}, costs_.backward, window)) return false;
            for (auto& [layer, sum] : sums) {
                const std::string module = block_module(i) + "." + layer;
                writer_.write_gradient(module, sum.take(context_, "the gradients at the outputs of " + module));
            }
        }
        return true;
    }

    /// `gradient` becomes the one at the last block's outputs, which x_ holds.
    bool loss_backward(lowrank::Matrix<float>& gradient) {
        std::copy_n(x_.data(), gradient.size(), gradient.data());
        LossBackward loss(context_, folder_, config_);
        return each_window(
            gradient_tokens_, {"backward", config_.layers}, costs_.loss, [&](std::int64_t first, std::int64_t rows) {
                loss.run(window_tokens(first, rows), gradient.view().block(first, 0, rows, gradient.cols()));
            });
    }

    const lowrank::cpu::Context& context_;
    lowrank::ModelFolder folder_;
    const ModelConfig& config_;
    const CalibrationText& text_;
    std::int64_t window_;
    std::int64_t gradient_tokens_;
    const std::function<bool(const CalibrationProgress&)>& progress_;
    Costs costs_;
    double total_;
    double done_ = 0;
    Kernels<T> kernels_;
    Kernels<float> float_kernels_;
    Rope rope_;
    KvCache cache_;
    Activations<T> at_;
    lowrank::Matrix<float> scratch_;
    lowrank::Matrix<float> x_;  ///< the residual stream of all tokens, before or behind the block at work
    lowrank::Workspace workspace_;
    lowrank::ScratchFile blocks_;  ///< each block's input for the tokens with gradients
    std::vector<std::uint64_t> stored_;
    std::vector<std::string> modules_;
    lowrank::StatisticsWriter writer_;
};

}  // namespace

StorageType calibration_type(const lowrank::cpu::Context& context, const std::filesystem::path& model) {
    const bool fast = context.isa() >= lowrank::cpu::Isa::avx512_bf16;
    return fast && stored_type(lowrank::ModelFolder(model)) == StorageType::bf16 ? StorageType::bf16 : StorageType::f32;
}

std::vector<std::string> calibrated_modules(const ModelConfig& config) {
    std::vector<std::string> modules;
    for (std::int64_t block = 0; block < config.layers; ++block) {
        for (const char* layer : kLayers) modules.push_back(block_module(block) + "." + layer);
    }
    return modules;
}

CalibrationText read_calibration_text(Tokenizer& tokenizer, const ModelConfig& config,
                                      const std::filesystem::path& file, const CalibrationSize& size) {
    if (size.window > config.context) {
        throw lowrank::ValueError("a window of " + std::to_string(size.window) + " tokens is above the model's " +
                                  "context of " + std::to_string(config.context));
    }
    if (size.tokens < size.window) {
        throw lowrank::ValueError(std::to_string(size.tokens) + " tokens are fewer than one window of " +
                                  std::to_string(size.window) + ": raise --tokens or lower --window");
    }
    const lowrank::MappedFile text(file);
    const std::string_view bytes = lowrank::detail::file_text(text);
    CalibrationText result{encode_file(tokenizer, text, Frame::added), lowrank::text_hash(bytes)};
    const auto found = static_cast<std::int64_t>(result.tokens.size());
    if (found < size.window) {
        throw lowrank::ValueError(lowrank::detail::path_text(file) + ": has " + std::to_string(found) +
                                  " tokens, fewer than one window of " + std::to_string(size.window) +
                                  ": a longer text or a smaller --window is needed");
    }
    const std::int64_t wanted = size.tokens / size.window * size.window;
    result.tokens.resize(static_cast<std::size_t>(std::min(found, wanted)));
    return result;
}

std::string calibration_text(const CalibrationProgress& progress) {
    char text[96];
    std::snprintf(text, sizeof(text), "%s, block %lld of %lld, %.0f %%", progress.step,
                  static_cast<long long>(progress.block), static_cast<long long>(progress.blocks),
                  100 * progress.share);
    return text;
}

CalibrationResult calibrate(const lowrank::cpu::Context& context, const std::filesystem::path& model,
                            const ModelConfig& config, const CalibrationText& text, const CalibrationSize& size,
                            StorageType type, const std::filesystem::path& out,
                            const std::function<bool(const CalibrationProgress&)>& progress) {
    if (text.tokens.empty() || size.window < 1) throw lowrank::ValueError("a calibration needs a text and a window");
    if (type == StorageType::f16) throw lowrank::ValueError("a calibration is in f32 or bf16, not in f16");
    if (type == StorageType::bf16) {
        return Calibration<lowrank::bf16>(context, model, config, text, size, out, progress).run();
    }
    return Calibration<float>(context, model, config, text, size, out, progress).run();
}

}  // namespace engine
