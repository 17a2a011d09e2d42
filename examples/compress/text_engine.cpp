// compress with the engine of `generate`, which runs the text through the model.
#include "text.hpp"

#include <lowrank/error.hpp>

#include "../generate/calibrate.hpp"
#include "../generate/config.hpp"
#include "../generate/progress.hpp"
#include "../generate/refit.hpp"
#include "../generate/tokenizer.hpp"

#include <algorithm>
#include <iostream>
#include <memory>
#include <span>
#include <utility>

namespace {

/// What the engine must understand of a model.
struct Model {
    engine::ModelConfig config;
    engine::Tokenizer tokenizer;
};

Model load(const std::filesystem::path& folder) {
    try {
        engine::ModelConfig config = engine::read_config(folder);
        engine::Tokenizer tokenizer = engine::load_tokenizer(folder, config.vocabulary);
        return {std::move(config), std::move(tokenizer)};
    } catch (const lowrank::Error& error) {
        throw lowrank::ValueError(std::string("--text: ") + error.what() + kOtherStatistics);
    }
}

std::function<bool(const engine::CalibrationProgress&)> shown_by(engine::Progress& progress) {
    return [&progress](const engine::CalibrationProgress& at) {
        progress.show(at.share, engine::calibration_text(at));
        return true;
    };
}

}  // namespace

PreparedText read_text(const std::filesystem::path& folder, const TextOptions& options, bool quiet) {
    Model model = load(folder);
    for (const std::string& key : model.config.unknown) {
        std::cerr << "warning: " << (folder / "config.json").string() << ": " << key
                  << " is not known and is ignored\n";
    }
    engine::CalibrationSize size{options.tokens, options.gradient_tokens};
    size.window = options.window.value_or(std::min(size.window, model.config.context));
    const auto text = std::make_shared<const engine::CalibrationText>(
        engine::read_calibration_text(model.tokenizer, model.config, options.file, size));
    const auto config = std::make_shared<const engine::ModelConfig>(std::move(model.config));
    PreparedText prepared{.modules = engine::calibrated_modules(*config)};
    prepared.write_statistics = [=](const lowrank::cpu::Context& context, const std::filesystem::path& file) {
        engine::Progress progress(quiet);
        static_cast<void>(engine::calibrate(context, folder, *config, *text, size,
                                            engine::calibration_type(context, folder), file, shown_by(progress)));
    };
    if (options.refit_tokens > 0 && engine::can_refit(*config)) {
        const auto count = std::min(text->tokens.size(), static_cast<std::size_t>(options.refit_tokens));
        prepared.refit = [=](const lowrank::cpu::Context& context, const lowrank::CompressPlan& plan,
                             const lowrank::Statistics& statistics, const lowrank::FactorStore& factors,
                             const std::filesystem::path& scratch) {
            engine::Progress progress(quiet);
            return engine::refit(context,
                                 {folder, *config, std::span(text->tokens).first(count), size.window,
                                  engine::calibration_type(context, folder), plan, statistics, factors},
                                 scratch, shown_by(progress));
        };
    }
    return prepared;
}
