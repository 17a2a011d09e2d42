// bench_cuda - times decompose() and forward() on the GPU and writes them as JSON: `bench_cuda OUT.json [--quick]`.
//
// Device time by events around a run of calls, the median of several runs. Weights are cycled so that they are read
// from memory and not from the L2 cache. Where events tell no time, as on an emulated device, "seconds" is left out.
#include <lowrank/cuda/decompose.hpp>
#include <lowrank/cuda/fused.hpp>
#include <lowrank/cuda/low_rank_linear.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace lowrank;
using Device = cuda::DeviceSpace;

struct Case {
    std::int64_t d_in;
    std::int64_t d_out;
    std::int64_t rank;
    int layers;  // of the reference model
};

struct Result {
    std::string bench;
    Case shape;
    std::int64_t rows;  // 0 for a decomposition
    std::string impl;
    double seconds;  // 0: not measured
    std::optional<double> excess;
    double flops;
};

/// Independent normal entries, drawn once and repeated: what they are does not matter to the time.
template <class T>
Matrix<T> gaussian(std::int64_t rows, std::int64_t cols) {
    constexpr std::size_t kDrawn = (1U << 20U) - 3;  // no multiple of a row
    static const std::vector<float> drawn = [] {
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        std::vector<float> values(kDrawn);
        for (float& value : values) value = normal(random);
        return values;
    }();
    Matrix<T> matrix(rows, cols);
    for (std::size_t i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<T>(drawn[i % kDrawn]);
    return matrix;
}

class Timer {
public:
    explicit Timer(cuda::Context& gpu) : gpu_(gpu) {
        cuda::vendor::check(cudaEventCreateWithFlags(&start_, cudaEventDefault), "cudaEventCreateWithFlags", "timing");
        cuda::vendor::check(cudaEventCreateWithFlags(&end_, cudaEventDefault), "cudaEventCreateWithFlags", "timing");
    }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer() {
        static_cast<void>(cudaEventDestroy(start_));
        static_cast<void>(cudaEventDestroy(end_));
    }

    /// Seconds of device time for one of `count` calls; the median of `runs`, after one that does not count.
    double median(int runs, int count, const std::function<void()>& call) {
        std::vector<double> seconds;
        for (int run = -1; run < runs; ++run) {
            cuda::vendor::check(cudaEventRecord(start_, gpu_.stream()), "cudaEventRecord", "timing");
            for (int i = 0; i < count; ++i) call();
            cuda::vendor::check(cudaEventRecord(end_, gpu_.stream()), "cudaEventRecord", "timing");
            cuda::vendor::check(cudaEventSynchronize(end_), "cudaEventSynchronize", "timing");
            float milliseconds = 0;
            cuda::vendor::check(cudaEventElapsedTime(&milliseconds, start_, end_), "cudaEventElapsedTime", "timing");
            if (run >= 0) seconds.push_back(static_cast<double>(milliseconds) / 1000 / count);
        }
        std::nth_element(seconds.begin(), seconds.begin() + runs / 2, seconds.end());
        return seconds[static_cast<std::size_t>(runs / 2)];
    }

    /// The same with one graph of `count` calls.
    double median_as_graph(int runs, int count, const std::function<void()>& call) {
        call();  // plans are made outside of the capture
        gpu_.synchronise();
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t exec = nullptr;
        using cuda::vendor::check;
        check(cudaStreamBeginCapture(gpu_.stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture", "");
        for (int i = 0; i < count; ++i) call();
        check(cudaStreamEndCapture(gpu_.stream(), &graph), "cudaStreamEndCapture", "");
        check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate", "");
        const double seconds =
            median(runs, 1, [&] { check(cudaGraphLaunch(exec, gpu_.stream()), "cudaGraphLaunch", ""); }) / count;
        gpu_.synchronise();
        static_cast<void>(cudaGraphExecDestroy(exec));
        static_cast<void>(cudaGraphDestroy(graph));
        return seconds;
    }

private:
    cuda::Context& gpu_;
    cudaEvent_t start_ = nullptr;
    cudaEvent_t end_ = nullptr;
};

void bench_decompose(cuda::Context& gpu, const Case& c, bool quick, std::vector<Result>& results) {
    const auto weight = cuda::to_device(gpu, gaussian<bf16>(c.d_in, c.d_out));
    const auto time = [&](Method method, int runs, double& error) {
        Timer timer(gpu);
        return timer.median(runs, 1, [&] {
            error =
                decompose(gpu, weight, {.rank = fixed_rank(c.rank), .method = method, .excess = 1e-3}).relative_error;
        });
    };
    double fast_error = 0;
    double optimum = 0;
    const double fast = time(Method::fast, quick ? 3 : 7, fast_error);
    const double exact = time(Method::exact, 1, optimum);
    results.push_back({"decompose", c, 0, "lowrank", fast, fast_error / optimum - 1, 0});
    results.push_back({"decompose", c, 0, "lowrank:exact", exact, 0.0, 0});
}

void bench_forward(cuda::Context& gpu, cuda::FusedRow& fused, const Case& c,
                   const std::vector<std::int64_t>& row_counts, std::size_t cycled_bytes,
                   std::vector<Result>& results) {
    const Matrix<bf16> w1 = gaussian<bf16>(c.d_in, c.rank);
    const Matrix<bf16> w2 = gaussian<bf16>(c.rank, c.d_out);
    const auto copies = [&](std::int64_t entries) {
        return std::max<std::size_t>(1, cycled_bytes / (2 * static_cast<std::size_t>(entries)));
    };
    std::deque<cuda::LowRankLinear<bf16>> layers;
    for (std::size_t i = copies(c.rank * (c.d_in + c.d_out)); i > 0; --i) {
        layers.emplace_back(gpu, w1, w2, WeightLayout::in_out);
    }
    const Matrix<bf16> host_dense = gaussian<bf16>(c.d_out, c.d_in);
    std::deque<Matrix<bf16, Device>> dense;
    for (std::size_t i = copies(c.d_in * c.d_out); i > 0; --i) dense.push_back(cuda::to_device(gpu, host_dense));
    Timer timer(gpu);
    cuda::Workspace workspace(layers[0].workspace_bytes(gpu, row_counts.back()));
    for (const std::int64_t rows : row_counts) {
        const auto x = cuda::to_device(gpu, gaussian<bf16>(rows, c.d_in));
        Matrix<bf16, Device> y(rows, c.d_out);
        std::size_t turn = 0;
        const std::function<void()> low_rank = [&] {
            layers[turn++ % layers.size()].forward(gpu, x.view(), y.view(), workspace);
        };
        const cuda::vendor::ProductKey key{.m = c.d_out,
                                           .n = rows,
                                           .k = c.d_in,
                                           .in = CUDA_R_16BF,
                                           .out = CUDA_R_16BF,
                                           .bias = false,
                                           .aligned = true};
        const std::function<void()> dense_layer = [&] {
            gpu.plan(key, "a dense layer")
                .run(gpu.blas_lt(), rows,
                     {.a = dense[turn++ % dense.size()].data(),
                      .lda = c.d_in,
                      .b = x.data(),
                      .ldb = c.d_in,
                      .d = y.data(),
                      .ldd = c.d_out},
                     workspace.reserve(0).data(), gpu.stream(), "a dense layer");
        };
        const double n = static_cast<double>(rows);
        const double low_flops = 2 * n * static_cast<double>(c.rank * (c.d_in + c.d_out));
        const double dense_flops = 2 * n * static_cast<double>(c.d_in * c.d_out);
        constexpr int kRuns = 7;
        const int count = rows >= 512 ? 20 : 60;
        results.push_back({"forward", c, rows, "lowrank", timer.median(kRuns, count, low_rank), {}, low_flops});
        results.push_back(
            {"forward", c, rows, "lowrank:graph", timer.median_as_graph(kRuns, count, low_rank), {}, low_flops});
        results.push_back({"forward", c, rows, "dense", timer.median(kRuns, count, dense_layer), {}, dense_flops});
        results.push_back(
            {"forward", c, rows, "dense:graph", timer.median_as_graph(kRuns, count, dense_layer), {}, dense_flops});
        if (rows == 1 && fused.takes(layers[0])) {
            const std::function<void()> one = [&] {
                fused.forward(layers[turn++ % layers.size()], x.view(), y.view());
            };
            results.push_back({"forward", c, rows, "lowrank:fused", timer.median(kRuns, count, one), {}, low_flops});
            results.push_back(
                {"forward", c, rows, "lowrank:fused+graph", timer.median_as_graph(kRuns, count, one), {}, low_flops});
        }
    }
}

void write(const cuda::Context& gpu, const std::vector<Result>& results, const std::string& path) {
    std::ostringstream text;
    text << "{\"machine\": {\"gpu\": \"" << gpu.device().name
         << "\", \"multiprocessors\": " << gpu.device().multiprocessors
         << ", \"compute_capability\": " << gpu.device().compute_capability << "},\n \"results\": [";
    const char* separator = "\n  ";
    for (const Result& r : results) {
        text << separator << "{\"bench\": \"" << r.bench << "\", \"case\": \"" << r.shape.d_in << " x " << r.shape.d_out
             << " r " << r.shape.rank << "\", \"d_in\": " << r.shape.d_in << ", \"d_out\": " << r.shape.d_out
             << ", \"rank\": " << r.shape.rank << ", \"layers\": " << r.shape.layers
             << ", \"type\": \"bf16\", \"impl\": \"" << r.impl << '"';
        if (r.rows > 0) text << ", \"rows\": " << r.rows;
        if (r.seconds > 0) text << ", \"seconds\": " << r.seconds;
        if (r.seconds > 0 && r.flops > 0) text << ", \"gflops\": " << r.flops / r.seconds / 1e9;
        if (r.excess) text << ", \"excess\": " << *r.excess;
        text << '}';
        separator = ",\n  ";
    }
    text << "\n]}\n";
    std::ofstream file(path);
    file << text.str();
    file.close();
    if (!file) throw IoError(path + ": cannot be written");
}

void run(const std::string& path, bool quick, bool tiny) {
    cuda::Context gpu;
    std::vector<Case> cases = {{2560, 2560, 384, 64}, {2560, 6912, 512, 32}};
    if (!quick) cases.push_back({4096, 11008, 640, 0});
    std::vector<std::int64_t> rows = {1, 16, 128, 512, 2048};
    std::size_t cycled_bytes = std::size_t{256} << 20U;  // several times any L2 cache
    if (tiny) {                                          // to see that it runs
        cases = {{96, 64, 16, 2}};
        rows = {1, 3};
        cycled_bytes = 0;
    }
    std::vector<Result> results;
    cuda::FusedRow fused(gpu);
    for (const Case& c : cases) {
        bench_decompose(gpu, c, quick, results);
        bench_forward(gpu, fused, c, rows, cycled_bytes, results);
        std::cerr << "done: " << c.d_in << " x " << c.d_out << '\n';
    }
    write(gpu, results, path);
}

}  // namespace

int main(int argc, char** argv) {
    bool quick = false;
    bool tiny = false;
    std::string path;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--quick") == 0) {
            quick = true;
        } else if (std::strcmp(argv[i], "--tiny") == 0) {
            tiny = true;
        } else if (path.empty() && argv[i][0] != '-') {
            path = argv[i];
        } else {
            path.clear();
            break;
        }
    }
    if (path.empty()) {
        std::cerr << "usage: bench_cuda OUT.json [--quick | --tiny]; --tiny only shows that it runs\n";
        return 2;
    }
    try {
        run(path, quick, tiny);
    } catch (const std::exception& error) {
        std::cerr << "bench_cuda: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
