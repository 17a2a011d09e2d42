// bench_forward: low-rank against dense layers, ours against other libraries', as a table and as JSON.
// SPDX-License-Identifier: MIT
#include "../machine.hpp"
#include "blas_peers.hpp"
#include "onednn_peer.hpp"
#include "own.hpp"
#include "torch_peer.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using nlohmann::ordered_json;

struct Options {
    std::vector<std::string> shapes{"2560x2560:384", "2560x6912:512", "4096x11008:640"};
    std::vector<std::string> types{"f32", "bf16", "f16"};
    std::vector<std::int64_t> rows{1, 4, 8, 16, 64, 512, 2048};
    int threads = 0;
    bool warm = false;
    bool quick = false;
    std::string json, torch_python, torch_script;
    std::string isa;
};

bool is_dense(const std::string& name) {
    return name.find("dense") != std::string::npos;
}

class Benchmark {
public:
    Benchmark(const Options& options, const lowrank::cpu::Context& context)
        : options_(&options), context_(&context), machine_(context) {
        if (!options.torch_python.empty()) {
            torch_.emplace(options.torch_python, options.torch_script, context.threads());
        }
    }

    void run(bench::Case c) {
        c.weight_bytes = options_->warm ? 0 : 256.0 * (1 << 20);
        if (c.type == "f32") run_in<float>(c);
        if (c.type == "bf16") run_in<lowrank::bf16>(c);
        if (c.type == "f16") run_in<lowrank::f16>(c);
    }

    [[nodiscard]] ordered_json document() const {
        ordered_json machine{{"cpu", bench::cpu_name()},
                             {"isa", lowrank::cpu::isa_name(context_->isa())},
                             {"threads", context_->threads()},
                             {"peak_gflops", bench::median(fma_rates_)},
                             {"stream_gbs", bench::median(stream_rates_)}};
        if (!dot_rates_.empty()) machine["peak_bf16_gflops"] = bench::median(dot_rates_);
        return {{"machine", machine}, {"results", results_}};
    }

private:
    template <class T>
    void run_in(const bench::Case& c) {
        const bench::Data<T> data(c);
        const lowrank::Matrix<T> x = bench::uniform<T>(c.rows, c.d_in, 4);
        const bool dot = std::is_same_v<T, lowrank::bf16> && machine_.has_dot();
        const lowrank::cpu::Context full(
            {.threads = context_->threads(), .isa = context_->isa(), .intermediate = lowrank::cpu::Intermediate::full});
        std::vector<bench::Contender> contenders{machine_.stream(), machine_.peak(false)};
        if (dot) contenders.push_back(machine_.peak(true));
        const std::size_t first = contenders.size();
        const auto layers = bench::low_rank_layers<T>(c, data);
        contenders.push_back(bench::own_contender("lowrank", *context_, layers, x));
        if (dot && c.rows >= lowrank::cpu::detail::kRoundedFromRows)
            contenders.push_back(bench::own_contender("lowrank:full", full, layers, x));
        contenders.push_back(bench::own_contender("dense", *context_, bench::dense_layers<T>(c, data), x));
        if constexpr (std::is_same_v<T, float>) bench::add_blas_peers(contenders, c, data, x);
#ifdef BENCH_ONEDNN
        if constexpr (!std::is_same_v<T, lowrank::f16>) {
            static const bool kSupported = bench::onednn_supports<T>();
            if (kSupported) {
                bench::add_onednn<T>(contenders, c, data, x);
            } else {
                std::printf("\noneDNN has no %s on this machine: left out\n", c.type.c_str());
            }
        }
#endif
        if (torch_) add_torch(*torch_, contenders, c);

        bench::Protocol protocol;
        if (options_->quick) protocol.rounds = 5;
        const std::vector<double> seconds = run_interleaved(contenders, protocol);
        const double stream = static_cast<double>(bench::Machine::kBytes) / seconds[0] / 1e9;
        const double fma = bench::Machine::kOperations / seconds[1] / 1e9;
        const double peak = dot ? bench::Machine::kOperations / seconds[2] / 1e9 : fma;
        stream_rates_.push_back(stream);
        fma_rates_.push_back(fma);
        if (dot) dot_rates_.push_back(peak);
        report<T>(c, contenders, seconds, first, stream, peak);
    }

    template <class T>
    void report(const bench::Case& c, const std::vector<bench::Contender>& contenders,
                const std::vector<double>& seconds, std::size_t first, double stream, double peak) {
        const std::string shape =
            std::to_string(c.d_in) + " x " + std::to_string(c.d_out) + " r " + std::to_string(c.rank);
        const std::string name = shape + ", " + std::to_string(c.rows) + (c.rows == 1 ? " row" : " rows");
        double best_dense = seconds.back();
        for (std::size_t i = first; i < contenders.size(); ++i) {
            if (is_dense(contenders[i].name)) best_dense = std::min(best_dense, seconds[i]);
        }
        std::printf("\n%s, %s: ideal speed-up %.2f, stream %.1f GB/s, peak %.0f GFLOP/s\n", name.c_str(),
                    c.type.c_str(), c.dense_parameters() / c.low_rank_parameters(), stream, peak);
        std::printf("  %-14s %10s %8s %9s %9s %8s %7s\n", "", "us", "GB/s", "GFLOP/s", "speed-up", "stream", "peak");
        for (std::size_t i = first; i < contenders.size(); ++i) {
            const double parameters = is_dense(contenders[i].name) ? c.dense_parameters() : c.low_rank_parameters();
            const double gbs = parameters * sizeof(T) / seconds[i] / 1e9;
            const double gflops = 2 * parameters * static_cast<double>(c.rows) / seconds[i] / 1e9;
            std::printf("  %-14s %10.1f %8.1f %9.1f %9.2f %7.0f%% %6.0f%%\n", contenders[i].name.c_str(),
                        seconds[i] * 1e6, gbs, gflops, best_dense / seconds[i], 100 * gbs / stream,
                        100 * gflops / peak);
            results_.push_back({{"bench", "forward"},
                                {"case", name},
                                {"d_in", c.d_in},
                                {"d_out", c.d_out},
                                {"rank", c.rank},
                                {"rows", c.rows},
                                {"type", c.type},
                                {"impl", contenders[i].name},
                                {"seconds", seconds[i]},
                                {"gbs", gbs},
                                {"gflops", gflops},
                                {"stream_share", gbs / stream},
                                {"peak_share", gflops / peak}});
        }
        std::fflush(stdout);
    }

    const Options* options_;
    const lowrank::cpu::Context* context_;
    bench::Machine machine_;
    std::optional<bench::TorchProcess> torch_;
    std::vector<double> stream_rates_, fma_rates_, dot_rates_;
    ordered_json results_ = ordered_json::array();
};

bench::Case parse_shape(const std::string& text) {
    bench::Case c{};
    char end = 0;
    long long d_in = 0, d_out = 0, rank = 0;
    if (std::sscanf(text.c_str(), "%lldx%lld:%lld%c", &d_in, &d_out, &rank, &end) != 3 || d_in < 1 || d_out < 1 ||
        rank < 1) {
        throw std::invalid_argument("'" + text + "' is not of the form D_INxD_OUT:RANK");
    }
    c.d_in = d_in;
    c.d_out = d_out;
    c.rank = rank;
    return c;
}

lowrank::cpu::ContextOptions context_options(const Options& options) {
    lowrank::cpu::ContextOptions result{.threads = options.threads};
    for (const auto isa : lowrank::cpu::kEveryIsa) {
        if (options.isa == lowrank::cpu::isa_name(isa)) result.isa = isa;
    }
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{
        "Times low-rank and dense linear layers, ours and other libraries', with weights that no cache holds."};
    app.add_option("--shapes", options.shapes, "D_INxD_OUT:RANK ...")->capture_default_str();
    app.add_option("--types", options.types, "f32, bf16, f16")
        ->check(CLI::IsMember({"f32", "bf16", "f16"}))
        ->capture_default_str();
    app.add_option("--rows", options.rows, "Rows of X")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--threads", options.threads, "Threads; 0: all")->check(CLI::NonNegativeNumber);
    app.add_option("--isa", options.isa, "Our instruction-set level")
        ->check(CLI::IsMember({"portable", "avx2", "avx512", "avx512_vnni", "avx512_bf16"}));
    app.add_flag("--warm", options.warm, "One layer each, which stays in the caches");
    app.add_flag("--quick", options.quick, "2560 x 2560 r 384; rows 1, 16, 512; f32 and bf16");
    app.add_option("--torch-python", options.torch_python, "A Python with torch: adds the peer torch");
    app.add_option("--torch-script", options.torch_script, "benchmarks/forward/torch_peer.py");
    app.add_option("--json", options.json, "Write the results to this file");
    CLI11_PARSE(app, argc, argv);
    try {
        if (options.quick) {
            options.shapes = {"2560x2560:384"};
            options.types = {"f32", "bf16"};
            options.rows = {1, 16, 512};
        }
        const lowrank::cpu::Context context(context_options(options));
        Benchmark benchmark(options, context);
        for (const std::string& type : options.types) {
            for (const std::string& shape : options.shapes) {
                for (const std::int64_t rows : options.rows) {
                    bench::Case c = parse_shape(shape);
                    c.rows = rows;
                    c.type = type;
                    benchmark.run(c);
                }
            }
        }
        if (!options.json.empty()) bench::write_json(options.json, benchmark.document());
    } catch (const std::exception& error) {
        std::cerr << "bench_forward: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
