// bench_decompose - the decomposition against LAPACK, Eigen and torch: time, and error over the optimum.
// SPDX-License-Identifier: MIT
#include "../harness.hpp"
#include "../machine.hpp"
#include "../torch_process.hpp"
#include "matrices.hpp"

#include <lowrank/checkpoint.hpp>
#include <lowrank/lowrank.hpp>

#include <CLI/CLI.hpp>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#ifdef BENCH_OPENBLAS
extern "C" void sgesdd_(const char* job, const int* m, const int* n, float* a, const int* lda, float* s, float* u,
                        const int* ldu, float* vt, const int* ldvt, float* work, const int* lwork, int* iwork,
                        int* info);
#endif

namespace {

using lowrank::Matrix;
using nlohmann::ordered_json;

struct Options {
    std::vector<std::string> shapes{"2560x2560:384", "6912x2560:512", "4096x4096:1024", "1536x576:114"};
    std::vector<std::string> spectra{"gaussian", "power"};
    std::string model;
    double excess = 1e-3;
    int threads = 0;
    int rounds = 3;
    bool quick = false;
    bool exact = true;
    std::string torch_python, torch_script, json;
};

#ifdef BENCH_OPENBLAS
/// LAPACK's divide and conquer, thin. Its column-major matrix is the transpose of ours: the same work.
void lapack_svd(const Matrix<float>& weight) {
    Matrix<float> a(weight);
    const int m = static_cast<int>(weight.cols());
    const int n = static_cast<int>(weight.rows());
    const int k = std::min(m, n);
    Matrix<float> u(k, m);
    Matrix<float> vt(n, k);
    std::vector<float> s(static_cast<std::size_t>(k));
    std::vector<int> iwork(8 * s.size());
    float size = 0;
    int info = 0;
    int query = -1;
    sgesdd_("S", &m, &n, a.data(), &m, s.data(), u.data(), &m, vt.data(), &k, &size, &query, iwork.data(), &info);
    const int count = static_cast<int>(size);
    std::vector<float> work(static_cast<std::size_t>(count));
    sgesdd_("S", &m, &n, a.data(), &m, s.data(), u.data(), &m, vt.data(), &k, work.data(), &count, iwork.data(), &info);
    if (info != 0) throw std::runtime_error("sgesdd failed");
}
#endif

/// Eigen's divide and conquer, thin.
void eigen_svd(const Matrix<float>& weight) {
    using Column = Eigen::Map<const Eigen::MatrixXf>;
    const Column transpose(weight.data(), weight.cols(), weight.rows());
    const Eigen::BDCSVD<Eigen::MatrixXf> svd(transpose, Eigen::ComputeThinU | Eigen::ComputeThinV);
    if (svd.info() != Eigen::Success) throw std::runtime_error("BDCSVD failed");
}

class Benchmark {
public:
    Benchmark(const Options& options, const lowrank::cpu::Context& context) : options_(options), context_(context) {
        if (!options.torch_python.empty()) {
            torch_.emplace(options.torch_python, options.torch_script, context.threads());
        }
        machine_ = {{"cpu", bench::cpu_name()}, {"isa", isa_name(context.isa())}, {"threads", context.threads()}};
        std::printf("%s, %s, %d threads\n", bench::cpu_name().c_str(), isa_name(context.isa()), context.threads());
    }

    void run(const std::string& name, const Matrix<float>& weight, std::int64_t rank) {
        run_in<float>(name, weight, weight, rank, "f32");
        Matrix<lowrank::bf16> stored(weight.rows(), weight.cols());
        Matrix<float> rounded(weight.rows(), weight.cols());
        for (std::size_t i = 0; i < stored.size(); ++i) {
            stored.data()[i] = lowrank::bf16(weight.data()[i]);
            rounded.data()[i] = static_cast<float>(stored.data()[i]);
        }
        run_in<lowrank::bf16>(name, rounded, stored, rank, "bf16");
    }

    [[nodiscard]] ordered_json document() const { return {{"machine", machine_}, {"results", results_}}; }

private:
    /// `stored` is what we are given, `weight` the same in float, which is what the peers are given.
    template <class T>
    void run_in(const std::string& name, const Matrix<float>& weight, const Matrix<T>& stored, std::int64_t rank,
                const char* type) {
        const auto error = [&](lowrank::Method method, double excess) {
            const lowrank::DecomposeOptions how{.rank = lowrank::fixed_rank(rank), .method = method, .excess = excess};
            return lowrank::decompose(context_, stored, how).relative_error;
        };
        const double best = error(lowrank::Method::exact, options_.excess);
        std::map<std::string, double> errors;
        std::vector<bench::Contender> contenders;
        const auto add = [&](const std::string& contender, auto&& call) {
            contenders.push_back({contender, [call](double seconds) {
                                      std::size_t i = 0;
                                      return bench::time_calls(seconds, i, [&](std::size_t) { call(); });
                                  }});
        };
        add("lowrank", [&] { errors["lowrank"] = error(lowrank::Method::fast, options_.excess); });
        add("lowrank:excess 1e-2", [&] { errors["lowrank:excess 1e-2"] = error(lowrank::Method::fast, 1e-2); });
        if (options_.exact)
            add("lowrank:exact", [&] { static_cast<void>(error(lowrank::Method::exact, options_.excess)); });
        Matrix<float> left(weight.rows(), rank);
        Matrix<float> right(weight.cols(), rank);
        add("two passes", [&] {
            using lowrank::cpu::Transpose;
            gemm(context_, 1.0F, stored, Transpose::no, right, Transpose::no, 0.0F, left.view());
            gemm(context_, 1.0F, stored, Transpose::yes, left, Transpose::no, 0.0F, right.view());
        });
        if (options_.exact) add("eigen:BDCSVD", [&] { eigen_svd(weight); });
#ifdef BENCH_OPENBLAS
        if (options_.exact) add("lapack:gesdd", [&] { lapack_svd(weight); });
#endif
        if (torch_) add_torch(contenders, weight, rank);

        const std::vector<double> seconds =
            run_interleaved(contenders, {.rounds = options_.rounds, .visit_seconds = 0, .most_seconds = 1e9});
        if (torch_) {
            double squares = 0;
            for (std::size_t i = 0; i < weight.size(); ++i) {
                squares += static_cast<double>(weight.data()[i]) * static_cast<double>(weight.data()[i]);
            }
            errors["torch.svd_lowrank"] = std::sqrt(std::stod(torch_->ask("error")) / squares);
        }
        report(name + ' ' + std::to_string(weight.rows()) + " x " + std::to_string(weight.cols()) + " r " +
                   std::to_string(rank),
               type, contenders, seconds, errors, best,
               4.0 * static_cast<double>(weight.size() * static_cast<std::size_t>(rank)));
    }

    /// `passes`: the operations of two products of the weight with `rank` columns, the least that any method needs.
    void report(const std::string& label, const std::string& type, const std::vector<bench::Contender>& contenders,
                const std::vector<double>& seconds, const std::map<std::string, double>& errors, double best,
                double passes) {
        double floor = 0;
        for (std::size_t i = 0; i < contenders.size(); ++i) {
            if (contenders[i].name == "two passes") floor = seconds[i];
        }
        std::printf("\n%s, %s\n  %-20s %10s %10s %10s %10s %10s\n", label.c_str(), type.c_str(), "", "ms", "excess",
                    "ours is", "GFLOP/s", "of passes");
        for (std::size_t i = 0; i < contenders.size(); ++i) {
            const std::string& impl = contenders[i].name;
            ordered_json result = {{"bench", "decompose"},  {"case", label},
                                   {"type", type},          {"impl", impl},
                                   {"seconds", seconds[i]}, {"gflops", passes / seconds[i] * 1e-9}};
            std::printf("  %-20s %10.1f", impl.c_str(), seconds[i] * 1e3);
            if (const auto found = errors.find(impl); found != errors.end()) {
                result["excess"] = found->second / best - 1;
                std::printf(" %10.2e", found->second / best - 1);
            } else {
                std::printf(" %10s", "");
            }
            std::printf(" %9.1fx %10.0f %9.1fx\n", seconds[i] / seconds[0], passes / seconds[i] * 1e-9,
                        seconds[i] / floor);
            results_.push_back(std::move(result));
        }
        std::fflush(stdout);
    }

    void add_torch(std::vector<bench::Contender>& contenders, const Matrix<float>& weight, std::int64_t rank) {
        const auto file = std::filesystem::temp_directory_path() / "bench_decompose.f32";
        std::ofstream(file, std::ios::binary)
            .write(static_cast<const char*>(static_cast<const void*>(weight.data())),
                   static_cast<std::streamsize>(weight.size() * sizeof(float)));
        const std::string answer = torch_->ask("case " + file.string() + ' ' + std::to_string(weight.rows()) + ' ' +
                                               std::to_string(weight.cols()) + ' ' + std::to_string(rank));
        std::filesystem::remove(file);
        if (answer != "ready") throw std::runtime_error("torch: " + answer);
        if (options_.exact) {
            contenders.push_back({"torch.linalg.svd", [this](double s) { return torch_->times("svd", s); }});
        }
        contenders.push_back({"torch.svd_lowrank", [this](double s) { return torch_->times("lowrank", s); }});
    }

    const Options& options_;
    const lowrank::cpu::Context& context_;
    std::optional<bench::TorchProcess> torch_;
    ordered_json machine_;
    ordered_json results_ = ordered_json::array();
};

/// The first gate_proj of a checkpoint.
Matrix<float> real_weight(const std::string& folder) {
    const lowrank::ModelFolder model(folder);
    const auto stored = model.at("model.layers.0.mlp.gate_proj.weight").matrix<lowrank::bf16>();
    Matrix<float> weight(stored.rows(), stored.cols());
    for (std::size_t i = 0; i < weight.size(); ++i) weight.data()[i] = static_cast<float>(stored.data()[i]);
    return weight;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{
        "Times decompose() against Eigen, LAPACK and torch, all in turns, and measures the error.\n"
        "GFLOP/s counts two products of the weight with RANK columns, which every method needs at least;\n"
        "'of passes' is the time over that of these two products by our own kernels."};
    app.add_option("--shapes", options.shapes, "ROWSxCOLS:RANK ...")->capture_default_str();
    app.add_option("--spectra", options.spectra, "gaussian, power")
        ->check(CLI::IsMember({"gaussian", "power"}))
        ->capture_default_str();
    app.add_option("--model", options.model, "Checkpoint in bf16: also its first gate_proj, at rank 114");
    app.add_option("--excess", options.excess, "Error that the fast method may have over the optimum")
        ->capture_default_str();
    app.add_option("--threads", options.threads, "Threads; 0: all")->check(CLI::NonNegativeNumber);
    app.add_option("--rounds", options.rounds, "Rounds that count")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_flag("!--no-exact", options.exact, "Leave out the full decompositions, which take most of the time");
    app.add_flag("--quick", options.quick, "2560 x 2560 r 384 alone");
    app.add_option("--torch-python", options.torch_python, "A Python with torch: adds the peer torch");
    app.add_option("--torch-script", options.torch_script, "benchmarks/decompose/torch_peer.py");
    app.add_option("--json", options.json, "Write the results to this file");
    CLI11_PARSE(app, argc, argv);
    try {
        if (options.quick) options.shapes = {"2560x2560:384"};
        const lowrank::cpu::Context context({.threads = options.threads});
        Benchmark benchmark(options, context);
        for (const std::string& text : options.shapes) {
            long long rows = 0, cols = 0, rank = 0;
            if (std::sscanf(text.c_str(), "%lldx%lld:%lld", &rows, &cols, &rank) != 3 || rank < 1 ||
                rank > std::min(rows, cols)) {
                throw std::invalid_argument("'" + text + "' is not of the form ROWSxCOLS:RANK");
            }
            for (const std::string& spectrum : options.spectra) {
                benchmark.run(spectrum,
                              spectrum == "power" ? bench::power_law(rows, cols) : bench::gaussian(rows, cols, 7),
                              rank);
            }
        }
        if (!options.model.empty()) benchmark.run("trained", real_weight(options.model), 114);
        if (!options.json.empty()) bench::write_json(options.json, benchmark.document());
    } catch (const std::exception& error) {
        std::cerr << "bench_decompose: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
