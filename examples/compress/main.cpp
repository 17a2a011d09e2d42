// compress - a Hugging Face checkpoint in, a smaller one out: runs the library, shows progress, prints the report.
#include "arguments.hpp"
#include "device.hpp"
#include "measure.hpp"
#include "progress.hpp"
#include "text.hpp"

#include <command_line/standard_streams.hpp>
#include <lowrank/checkpoint.hpp>
#include <lowrank/stopwatch.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace {

/// The statistics and matrices of one layer serve the next: given back to the system in between, their pages come
/// zeroed again, which took an eighth of the time of compress --text. Without statistics it gains nothing.
void keep_freed_memory() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
#endif
}

constexpr int kUsageError = 2;

void print(const lowrank::CompressReport& report, const Arguments& arguments, double share = 0) {
    for (const std::string& warning : report.warnings) std::cerr << "warning: " << warning << '\n';
    if (!arguments.quiet) std::cout << lowrank::report_table(report);
    if (!arguments.json.empty()) lowrank::write_report(report, arguments.numbered(arguments.json, share));
    if (!arguments.plot.empty()) lowrank::write_report_plot(report, arguments.numbered(arguments.plot, share));
}

ProgressLine progress_line(const Arguments& arguments) {
    if (arguments.quiet) return ProgressLine(ProgressLine::Style::none);
    return ProgressLine(isatty(STDERR_FILENO) != 0 ? ProgressLine::Style::bar : ProgressLine::Style::lines);
}

/// Statistics that were given, or that a text has yet to give.
class StatisticsSource {
public:
    /// Reads what there is to read. Throws a lowrank::Error.
    explicit StatisticsSource(const Arguments& arguments) {
        if (arguments.text.file.empty()) {
            statistics_.emplace(arguments.calibration);
        } else {
            TextOptions options = arguments.text;
            if (arguments.one_sided) options.gradient_tokens = 0;
            text_ = read_text(arguments.input, options, arguments.quiet);
        }
    }

    /// Null if they are made of a text, which they have yet to be.
    [[nodiscard]] const lowrank::Statistics* given() const { return statistics_ ? &*statistics_ : nullptr; }
    /// The layers of `model` that a text tells of, and that are not low-rank yet.
    [[nodiscard]] std::vector<std::string> modules(const lowrank::ModelFolder& model) const {
        std::vector<std::string> found;
        for (const std::string& module : text_.modules) {
            if (model.find(module + ".weight")) found.push_back(module);
        }
        if (found.empty()) {
            throw lowrank::ValueError(lowrank::detail::path_text(model.folder()) + ": all layers are low-rank already");
        }
        return found;
    }
    /// Throws ValueError unless a text tells of every one of these layers that is not to stay dense.
    void require(const lowrank::CompressPlan& plan) const {
        for (const lowrank::PlannedLayer& layer : plan.layers) {
            const bool dense = layer.choice && layer.choice->dense;
            const auto& known = text_.modules;
            if (dense || std::find(known.begin(), known.end(), layer.module) != known.end()) continue;
            throw lowrank::ValueError("a text gives no statistics of " + layer.module + ": take it off the ranks");
        }
    }

    /// The statistics. Those of a text are made in a file in `folder`, which loses its name at once.
    const lowrank::Statistics& get(const lowrank::cpu::Context& context, const std::filesystem::path& folder) {
        if (!statistics_) {
            const std::filesystem::path file = folder / "statistics.safetensors";
            text_.write_statistics(context, file);
            statistics_.emplace(file);
            std::filesystem::remove(file);
        }
        return *statistics_;
    }

    /// The factors of a split fitted to each other, where a text can do that. After get().
    [[nodiscard]] std::optional<lowrank::FactorStore> refit(const lowrank::cpu::Context& context,
                                                            const lowrank::CalibratedModel& model,
                                                            const lowrank::FactorStore& store, std::int64_t budget,
                                                            const std::filesystem::path& folder) const {
        if (!text_.refit) return std::nullopt;
        return text_.refit(context, model.split(store, budget), *statistics_, store, folder);
    }

private:
    PreparedText text_;
    std::optional<lowrank::Statistics> statistics_;
};

void run_with_ranks(const Arguments& arguments, const lowrank::ModelFolder& model) {
    const lowrank::Stopwatch all;
    const lowrank::RankConfig config = arguments.config.empty() ? lowrank::RankConfig::parse(arguments.ranks)
                                                                : lowrank::read_rank_config(arguments.config);
    const lowrank::CompressPlan plan = lowrank::plan_compression(model, config);
    if (arguments.plan) {
        print(lowrank::report_plan(model, plan), arguments);
        if (arguments.measured_rows > 0) {
            std::cout << '\n' << measure_plan(plan, arguments.threads, arguments.measured_rows);
        }
        return;
    }
    std::optional<StatisticsSource> source;
    if (arguments.calibrated()) source.emplace(arguments);
    if (source && source->given() == nullptr) source->require(plan);
    lowrank::OutputFolder out(arguments.output, {.replace = arguments.force, .source = arguments.input});
    const Interruption interruption({&out});
    ProgressLine line = progress_line(arguments);
    const lowrank::CompressOptions options{
        .method = arguments.method,
        .excess = arguments.excess,
        .progress = [&](const lowrank::CompressProgress& progress) { line.show(progress); }};
    std::string where = "the CPU";
    lowrank::CompressReport report;
    if (!source) {
        report = compress_on(arguments.device, arguments.threads, model, plan, out, options, where);
    } else {
        const lowrank::cpu::Context cpu({.threads = arguments.threads});
        report =
            lowrank::compress(cpu, model, plan, source->get(cpu, out.folder()), out, options, !arguments.one_sided);
    }
    line.finish();
    report.seconds = all.seconds();
    if (!arguments.quiet) std::cout << "computed on " << where << '\n';
    print(report, arguments);
}

/// For each share, or one for the target. `layers` has budget(share) and budget_of_model(target).
template <class Layers>
std::vector<std::int64_t> budgets_of(const Layers& layers, const Arguments& arguments) {
    if (arguments.target > 0) return {layers.budget_of_model(arguments.target)};
    std::vector<std::int64_t> budgets;
    for (const double share : arguments.shares) budgets.push_back(layers.budget(share));
    return budgets;
}

void run_with_budget(const Arguments& arguments, const lowrank::ModelFolder& model) {
    const lowrank::Stopwatch all;
    ProgressLine line = progress_line(arguments);
    const lowrank::CalibratedOptions options{
        .method = arguments.method,
        .excess = arguments.excess,
        .gradients = !arguments.one_sided,
        .uniform = arguments.uniform,
        .ranks = arguments.allocation,
        .progress = [&](const lowrank::CompressProgress& progress) { line.show(progress); }};
    // Everything that can be refused is refused before the work.
    StatisticsSource source(arguments);
    std::vector<std::string> layers = arguments.layers;
    std::optional<lowrank::CalibratedModel> calibrated;
    std::vector<std::int64_t> budgets;
    if (source.given() != nullptr) {
        calibrated.emplace(model, *source.given(), layers, options);
        budgets = budgets_of(*calibrated, arguments);
    } else {
        if (layers.empty()) layers = source.modules(model);
        const lowrank::CompetingLayers competing(model, layers, arguments.allocation);
        source.require(competing.plan());
        budgets = budgets_of(competing, arguments);
    }
    const std::vector<double> shares = arguments.shares.empty() ? std::vector<double>{0} : arguments.shares;
    std::vector<std::unique_ptr<lowrank::OutputFolder>> outs;
    std::vector<lowrank::OutputFolder*> borrowed;
    for (const double share : shares) {
        outs.push_back(std::make_unique<lowrank::OutputFolder>(
            arguments.numbered(arguments.output, share),
            lowrank::OutputFolderOptions{.replace = arguments.force, .source = arguments.input}));
        borrowed.push_back(outs.back().get());
    }
    const lowrank::cpu::Context cpu({.threads = arguments.threads});
    const Interruption interruption(borrowed);
    if (!calibrated) calibrated.emplace(model, source.get(cpu, outs.front()->folder()), layers, options);
    const lowrank::FactorStore store = calibrated->factorise(cpu, outs.front()->folder());
    const double common = all.seconds();  // to every share
    for (std::size_t i = 0; i < shares.size(); ++i) {
        const lowrank::Stopwatch own;
        const std::optional<lowrank::FactorStore> refitted =
            source.refit(cpu, *calibrated, store, budgets[i], outs[i]->folder());
        lowrank::CompressReport report = calibrated->compress(cpu, refitted ? *refitted : store, budgets[i], *outs[i]);
        if (!arguments.text.file.empty()) report.calibration->statistics = arguments.text.file;
        report.seconds = common + own.seconds();
        line.finish();
        print(report, arguments, shares[i]);
    }
}

void run(const Arguments& arguments) {
    check_reports(arguments);
    if (arguments.calibrated()) keep_freed_memory();
    const lowrank::ModelFolder model(arguments.input);
    if (arguments.budget()) {
        run_with_budget(arguments, model);
    } else {
        run_with_ranks(arguments, model);
    }
}

}  // namespace

int main(int argc, char** argv) {
    command_line::let_writes_fail();
    CLI::App app(kDescription, "compress");
    Arguments arguments;
    declare(app, arguments);
    try {
        app.parse(argc, argv);
        validate(app, arguments);
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
    return command_line::output_is_complete("compress") ? 0 : 1;
}
