// compress - a Hugging Face checkpoint in, a smaller one out: runs the library, shows progress, prints the report.
#include "arguments.hpp"
#include "device.hpp"
#include "measure.hpp"
#include "progress.hpp"

#include <lowrank/checkpoint.hpp>

#include <CLI/CLI.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

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

void run_with_ranks(const Arguments& arguments, const lowrank::ModelFolder& model) {
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
    lowrank::OutputFolder out(arguments.output, {.replace = arguments.force, .source = arguments.input});
    const Interruption interruption({&out});
    ProgressLine line = progress_line(arguments);
    const lowrank::CompressOptions options{
        .method = arguments.method,
        .progress = [&](const lowrank::CompressProgress& progress) { line.show(progress); }};
    std::string where = "the CPU";
    lowrank::CompressReport report;
    if (arguments.calibration.empty()) {
        report = compress_on(arguments.device, arguments.threads, model, plan, out, options, where);
    } else {
        const lowrank::cpu::Context cpu({.threads = arguments.threads});
        report = lowrank::compress(cpu, model, plan, lowrank::Statistics(arguments.calibration), out, options,
                                   !arguments.one_sided);
    }
    line.finish();
    if (!arguments.quiet) std::cout << "computed on " << where << '\n';
    print(report, arguments);
}

void run_with_budget(const Arguments& arguments, const lowrank::ModelFolder& model) {
    const lowrank::Statistics statistics(arguments.calibration);
    ProgressLine line = progress_line(arguments);
    const lowrank::CalibratedModel calibrated(
        model, statistics, arguments.layers,
        {.method = arguments.method,
         .gradients = !arguments.one_sided,
         .uniform = arguments.uniform,
         .ranks = arguments.allocation,
         .progress = [&](const lowrank::CompressProgress& progress) { line.show(progress); }});
    // Everything that can be refused is refused before the work.
    std::vector<std::int64_t> budgets;
    std::vector<std::unique_ptr<lowrank::OutputFolder>> outs;
    std::vector<lowrank::OutputFolder*> borrowed;
    const std::vector<double> shares = arguments.shares.empty() ? std::vector<double>{0} : arguments.shares;
    for (const double share : shares) {
        budgets.push_back(arguments.target > 0 ? calibrated.budget_of_model(arguments.target)
                                               : calibrated.budget(share));
    }
    for (const double share : shares) {
        outs.push_back(std::make_unique<lowrank::OutputFolder>(
            arguments.numbered(arguments.output, share),
            lowrank::OutputFolderOptions{.replace = arguments.force, .source = arguments.input}));
        borrowed.push_back(outs.back().get());
    }
    const lowrank::cpu::Context cpu({.threads = arguments.threads});
    const Interruption interruption(borrowed);
    const lowrank::FactorStore store = calibrated.factorise(cpu, outs.front()->folder());
    for (std::size_t i = 0; i < shares.size(); ++i) {
        const lowrank::CompressReport report = calibrated.compress(cpu, store, budgets[i], *outs[i]);
        line.finish();
        print(report, arguments, shares[i]);
    }
}

void run(const Arguments& arguments) {
    const lowrank::ModelFolder model(arguments.input);
    if (arguments.budget()) {
        run_with_budget(arguments, model);
    } else {
        run_with_ranks(arguments, model);
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(kDescription, "compress");
    Arguments arguments;
    declare(app, arguments);
    try {
        app.parse(argc, argv);
        validate(arguments);
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
