// compress - a Hugging Face checkpoint in, a smaller one out: reads the command line, shows progress, prints the
// report.
#include "device.hpp"
#include "progress.hpp"

#include <lowrank/checkpoint.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

constexpr int kUsageError = 2;

constexpr const char* kDescription =
    R"(Makes the linear layers of a checkpoint smaller: each selected NAME.weight (out x in) becomes
NAME.w1 (out x rank) and NAME.w2 (rank x in) with NAME.weight ~ NAME.w1 NAME.w2. Everything else is copied bit for bit.)";

constexpr const char* kExamples = R"(
Layers are named by the last part of their module's name (q_proj), or by more of it (self_attn.q_proj,
layers.0.self_attn.q_proj, layers.*.mlp.up_proj); the longest name that matches counts.

A config is JSON: {"q_proj": 384, "gate_proj": {"share": 0.5, "multiple": 16}, "up_proj": {"error": 0.1, "max": 1024},
"o_proj": {"energy": 0.95}}. Wrong names, ranks below 1 and duplicates are errors; a layer whose rank would save nothing
stays dense, with a warning.

Examples:
  compress StableLM-3B smaller --ranks q_proj=384,o_proj=384,gate_proj=512
  compress StableLM-3B smaller --config ranks.json --json report.json
  compress StableLM-3B --plan --ranks q_proj=384

Exit status: 0 success, 1 an error of the input or the system, 2 wrong usage.)";

struct Arguments {
    std::filesystem::path input;
    std::filesystem::path output;
    std::string ranks;
    std::filesystem::path config;
    std::filesystem::path json;
    lowrank::Method method = lowrank::Method::automatic;
    Device device = Device::automatic;
    int threads = 0;
    bool plan = false;
    bool force = false;
    bool quiet = false;
};

void declare(CLI::App& app, Arguments& arguments) {
    app.add_option("IN", arguments.input, "folder of the checkpoint: model.safetensors, or shards with their index")
        ->required();
    app.add_option("OUT", arguments.output, "folder to write; not needed with --plan");
    auto* ranks = app.add_option("--ranks", arguments.ranks, "ranks of layers: NAME=RANK,NAME=RANK,...");
    app.add_option("--config", arguments.config, "JSON file of ranks and rules")->excludes(ranks);
    app.add_option("--method", arguments.method, "how to decompose: auto or exact")
        ->transform(CLI::CheckedTransformer(std::vector<std::pair<std::string, lowrank::Method>>{
            {"auto", lowrank::Method::automatic}, {"exact", lowrank::Method::exact}}))
        ->default_str("auto");
    app.add_option("--device", arguments.device, "where to compute: auto (a GPU if one answers), cpu or cuda")
        ->transform(CLI::CheckedTransformer(std::vector<std::pair<std::string, Device>>{
            {"auto", Device::automatic}, {"cpu", Device::cpu}, {"cuda", Device::cuda}}))
        ->default_str("auto");
    app.add_option("--threads", arguments.threads, "threads to use; 0 for all")->check(CLI::NonNegativeNumber);
    app.add_option("--json", arguments.json, "also write the report, with every layer, to this file");
    app.add_flag("--plan", arguments.plan, "only count parameters and bytes, from the headers");
    app.add_flag("--force", arguments.force, "replace OUT if it is there already");
    app.add_flag("--quiet", arguments.quiet, "print errors and warnings only");
    app.footer(kExamples);
}

void print(const lowrank::CompressReport& report, const Arguments& arguments) {
    for (const std::string& warning : report.warnings) std::cerr << "warning: " << warning << '\n';
    if (!arguments.quiet) std::cout << lowrank::report_table(report);
    if (!arguments.json.empty()) lowrank::write_report(report, arguments.json);
}

void run(const Arguments& arguments) {
    const lowrank::RankConfig config = arguments.config.empty() ? lowrank::RankConfig::parse(arguments.ranks)
                                                                : lowrank::read_rank_config(arguments.config);
    const lowrank::ModelFolder model(arguments.input);
    const lowrank::CompressPlan plan = lowrank::plan_compression(model, config);
    if (arguments.plan) {
        print(lowrank::report_plan(model, plan), arguments);
        return;
    }
    lowrank::OutputFolder out(arguments.output, {.replace = arguments.force, .source = arguments.input});
    const Interruption interruption(out);
    ProgressLine line(arguments.quiet              ? ProgressLine::Style::none
                      : isatty(STDERR_FILENO) != 0 ? ProgressLine::Style::bar
                                                   : ProgressLine::Style::lines);
    std::string where;
    const lowrank::CompressReport report =
        compress_on(arguments.device, arguments.threads, model, plan, out,
                    {.method = arguments.method,
                     .progress = [&](const lowrank::CompressProgress& progress) { line.show(progress); }},
                    where);
    line.finish();
    if (!arguments.quiet) std::cout << "computed on " << where << '\n';
    print(report, arguments);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(kDescription, "compress");
    Arguments arguments;
    declare(app, arguments);
    try {
        app.parse(argc, argv);
        if (arguments.ranks.empty() && arguments.config.empty()) {
            throw CLI::ValidationError("--ranks or --config is needed, to say which layers to make smaller");
        }
        if (arguments.output.empty() && !arguments.plan) {
            throw CLI::ValidationError("OUT is needed, the folder to write (or --plan, to only count)");
        }
    } catch (const CLI::Success& success) {
        return app.exit(success);
    } catch (const CLI::Error& error) {
        std::cerr << "compress: " << error.what() << "; see compress --help\n";
        return kUsageError;
    }
    try {
        run(arguments);
    } catch (const std::exception& error) {
        std::cerr << "compress: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
