// The command line of `compress`.
#pragma once

#include "device.hpp"
#include "text.hpp"

#include <command_line/output_path.hpp>
#include <command_line/validators.hpp>
#include <lowrank/checkpoint.hpp>

#include <CLI/CLI.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

constexpr const char* kDescription =
    R"(Makes the linear layers of a checkpoint smaller: each selected NAME.weight (out x in) becomes
NAME.w1 (out x rank) and NAME.w2 (rank x in) with NAME.weight ~ NAME.w1 NAME.w2. Everything else is copied bit for bit.
Ranks are given (--ranks, --config), or follow from a budget (--share) and from what a text (--text) or statistics of
one (--calibration) tell of the layers.)";

constexpr const char* kExamples = R"(
Layers are named by the last part of their module's name (q_proj), or by more of it (self_attn.q_proj,
layers.0.self_attn.q_proj, layers.*.mlp.up_proj); the longest name that matches counts.

A config is JSON: {"q_proj": 384, "gate_proj": {"share": 0.5, "multiple": 16}, "up_proj": {"error": 0.1, "max": 1024},
"o_proj": {"energy": 0.95}}. Wrong names, ranks below 1 and duplicates are errors; a layer whose rank would save nothing
stays dense, with a warning.

--text runs a text, like those that the model will see, through the model, forward and backward. The error of a layer
is then weighted by its inputs and by the loss, all layers compete for the budget, a layer may stay dense, and the
factors are fitted to each other. Several shares are written to OUT-SHARE each. Statistics that are to be used again, or
of a model that --text cannot run, come from `generate --calibrate` and examples/python/collect_statistics.py;
--calibration takes them.

Examples:
  compress SmolLM2 smaller --share 0.8 --text text.txt
  compress SmolLM2 smaller --shares 0.9,0.8,0.6 --text text.txt --plot ranks.svg --json report.json
  compress StableLM-3B smaller --ranks q_proj=384,o_proj=384,gate_proj=512
  compress StableLM-3B smaller --config ranks.json --json report.json
  compress StableLM-3B --plan --ranks q_proj=384
  compress StableLM-3B --plan --measure 1 --ranks q_proj=384
  compress SmolLM2 smaller --calibration stats.safetensors --share 0.8 --plot ranks.svg
  compress SmolLM2 smaller --calibration stats.safetensors --ranks q_proj=128,o_proj=128

Exit status: 0 success, 1 an error of the input or the system, 2 wrong usage, 130 interrupted (128 + the signal).)";

struct Arguments {
    std::filesystem::path input;
    std::filesystem::path output;
    std::string ranks;
    std::filesystem::path config;
    std::filesystem::path calibration;
    TextOptions text;
    std::vector<double> shares;
    std::int64_t target = 0;
    std::vector<std::string> layers;
    lowrank::AllocationOptions allocation;
    bool uniform = false;
    bool one_sided = false;
    std::filesystem::path json;
    std::filesystem::path plot;
    lowrank::Method method = lowrank::Method::automatic;
    double excess = 1e-3;
    Device device = Device::automatic;
    int threads = 0;
    std::int64_t measured_rows = 0;
    bool plan = false;
    bool force = false;
    bool quiet = false;

    [[nodiscard]] bool budget() const { return !shares.empty() || target > 0; }
    [[nodiscard]] bool calibrated() const { return !calibration.empty() || !text.file.empty(); }

    /// `path` as it is for one share, with "-SHARE" before its extension for one of several.
    [[nodiscard]] std::filesystem::path numbered(const std::filesystem::path& path, double share) const {
        if (shares.size() < 2 || path.empty()) return path;
        std::filesystem::path stem = path;
        if (!stem.has_filename()) stem = stem.parent_path();  // "folder/"
        const std::filesystem::path extension = stem.extension();
        char number[32];
        std::snprintf(number, sizeof(number), "-%g", share);
        stem.replace_extension();
        stem += number;
        stem += extension;
        return stem;
    }
};

/// What goes with statistics of a text alone.
inline void declare_calibration(CLI::App& app, Arguments& arguments) {
    auto* text = app.add_option("--text", arguments.text.file,
                                "calibrate on this text file (UTF-8), with the engine of `generate`");
    app.add_option("--calibration", arguments.calibration, "calibrate by these statistics of a text (safetensors)")
        ->excludes(text);
    app.add_option("--tokens", arguments.text.tokens, "tokens of the text to use; all where it has fewer")
        ->check(command_line::at_least(1))
        ->capture_default_str()
        ->needs(text);
    app.add_option("--gradient-tokens", arguments.text.gradient_tokens, "tokens of these with gradients too")
        ->check(command_line::at_least(1))
        ->capture_default_str()
        ->needs(text);
    app.add_option("--window", arguments.text.window, "tokens of the text that see each other (512)")
        ->check(command_line::within(2, 1 << 30))
        ->needs(text);
    app.add_option("--refit-tokens", arguments.text.refit_tokens,
                   "tokens by which the factors are fitted to each other; 0: each layer on its own")
        ->check(command_line::at_least(0))
        ->capture_default_str()
        ->needs(text);
    auto* shares = app.add_option("--share,--shares", arguments.shares,
                                  "part of the selected layers' parameters to keep; several: 0.9,0.8,0.6")
                       ->delimiter(',')
                       ->check(command_line::number_within(-1e300, 1e300, "a number"));
    app.add_option("--target-parameters", arguments.target, "parameters that the whole model may have, instead")
        ->check(command_line::at_least(1))
        ->excludes(shares);
    app.add_option("--layers", arguments.layers, "layers that compete: NAME,NAME,... (all that the statistics know)")
        ->delimiter(',');
    app.add_option("--floor", arguments.allocation.floor, "part of the break-even rank that every layer keeps at least")
        ->capture_default_str();
    app.add_option("--multiple", arguments.allocation.multiple, "ranks are multiples of this")->capture_default_str();
    app.add_flag("--uniform", arguments.uniform, "the same share for every layer, to compare with");
    app.add_flag("--one-sided", arguments.one_sided, "no gradients, the inputs alone, to compare with");
}

inline void declare(CLI::App& app, Arguments& arguments) {
    app.add_option("IN", arguments.input, "folder of the checkpoint: model.safetensors, or shards with their index")
        ->required();
    app.add_option("OUT", arguments.output, "folder to write; not needed with --plan");
    auto* ranks = app.add_option("--ranks", arguments.ranks, "ranks of layers: NAME=RANK,NAME=RANK,...");
    app.add_option("--config", arguments.config, "JSON file of ranks and rules")->excludes(ranks);
    declare_calibration(app, arguments);
    app.add_option("--method", arguments.method,
                   "how to decompose: auto (fast where it pays), or all singular values by the exact SVD")
        ->transform(command_line::one_of<lowrank::Method>(
            {{"auto", lowrank::Method::automatic}, {"exact", lowrank::Method::exact}}))
        ->option_text("auto|exact");
    app.add_option("--excess", arguments.excess,
                   "error that the fast method may have over the least possible; 0.01 takes less time")
        ->check(command_line::number_within(1e-6, 1, "a number from 1e-6 to 1"))
        ->capture_default_str();
    app.add_option("--device", arguments.device, "where to compute: auto (a GPU if one answers), cpu or cuda")
        ->transform(
            command_line::one_of<Device>({{"auto", Device::automatic}, {"cpu", Device::cpu}, {"cuda", Device::cuda}}))
        ->option_text("auto|cpu|cuda");
    app.add_option("--threads", arguments.threads, "threads to use; 0 for all")->check(command_line::thread_count());
    app.add_option("--json", arguments.json, "also write the report, with every layer, to this file");
    app.add_option("--plot", arguments.plot, "also write a picture of ranks and errors to this file (SVG)");
    app.add_flag("--plan", arguments.plan, "only count parameters and bytes, from the headers");
    app.add_option("--measure", arguments.measured_rows,
                   "with --plan: time each layer shape, dense and low-rank, for so many tokens at a time")
        ->check(command_line::within(1, 1 << 20));
    app.add_flag("--force", arguments.force, "replace OUT if it is there already");
    app.add_flag("--quiet", arguments.quiet, "print errors and warnings only");
    app.footer(kExamples);
}

/// What CLI11 cannot express. Throws CLI::ValidationError.
inline void validate(const CLI::App& app, const Arguments& arguments) {
    const bool ranks = !arguments.ranks.empty() || !arguments.config.empty();
    for (const char* option :
         {"--share", "--target-parameters", "--layers", "--floor", "--multiple", "--uniform", "--one-sided"}) {
        if (arguments.calibrated() || app.count(option) == 0) continue;
        throw CLI::ValidationError(std::string(option) + " goes by what a text tells of the layers: it needs --text " +
                                   "or --calibration");
    }
    if (!ranks && !arguments.calibrated()) {
        throw CLI::ValidationError(
            "--share with --text or --calibration, --ranks or --config is needed, to say which "
            "layers to make smaller");
    }
    if (ranks && arguments.budget()) {
        throw CLI::ValidationError("--share and --target-parameters choose the ranks: without --ranks and --config");
    }
    if (!ranks && !arguments.budget()) {
        throw CLI::ValidationError(
            "--text and --calibration also need a budget, --share or --target-parameters, or "
            "ranks");
    }
    for (std::size_t i = 1; i < arguments.shares.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            const auto& share = arguments.shares;
            if (arguments.numbered("OUT", share[i]) != arguments.numbered("OUT", share[j])) continue;
            throw CLI::ValidationError("--share names one folder twice: each share must differ from the others");
        }
    }
    if (arguments.plan && arguments.budget()) {
        throw CLI::ValidationError("--plan cannot know ranks that follow from the work itself");
    }
    if (arguments.output.empty() && !arguments.plan) {
        throw CLI::ValidationError("OUT is needed, the folder to write (or --plan, to only count)");
    }
    if (arguments.device == Device::cuda && arguments.calibrated()) {
        throw CLI::ValidationError("--text and --calibration are carried out on the CPU: without --device cuda");
    }
    if (arguments.plan && !arguments.text.file.empty()) {
        throw CLI::ValidationError("--plan reads headers only: it cannot go with --text");
    }
    if (arguments.measured_rows > 0 && !arguments.plan) {
        throw CLI::ValidationError("--measure times what --plan lists: it needs --plan");
    }
}

/// Throws a lowrank::Error for a report that would overwrite what is read or written otherwise, or cannot be written:
/// before the work, not after it.
inline void check_reports(const Arguments& arguments) {
    const std::vector<double> shares = arguments.shares.empty() ? std::vector<double>{0} : arguments.shares;
    std::vector<std::filesystem::path> taken{arguments.input, arguments.text.file, arguments.config,
                                             arguments.calibration};
    for (const double share : shares) taken.push_back(arguments.numbered(arguments.output, share));
    for (const double share : shares) {
        for (const auto& [file, option] : {std::pair(arguments.json, "--json"), {arguments.plot, "--plot"}}) {
            const std::filesystem::path report = arguments.numbered(file, share);
            command_line::require_free(report, option, taken);
            taken.push_back(report);
        }
    }
}
