// embed_cuda - a host engine with its own stream, handles and graph runs a low-rank layer in its decoding loop.
#include <lowrank/cuda/decompose.hpp>
#include <lowrank/cuda/low_rank_linear.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>

namespace {

/// What any engine has.
struct Engine {
    Engine() {
        check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess, "no stream");
        check(cublasCreate(&blas) == CUBLAS_STATUS_SUCCESS, "no cuBLAS");
        check(cublasSetStream(blas, stream) == CUBLAS_STATUS_SUCCESS, "no stream for cuBLAS");
        check(cublasLtCreate(&blas_lt) == CUBLAS_STATUS_SUCCESS, "no cuBLASLt");
    }
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    ~Engine() {
        cublasLtDestroy(blas_lt);
        cublasDestroy(blas);
        cudaStreamDestroy(stream);
    }
    static void check(bool ok, const char* what) {
        if (!ok) throw std::runtime_error(what);
    }

    cudaStream_t stream = nullptr;
    cublasHandle_t blas = nullptr;
    cublasLtHandle_t blas_lt = nullptr;
};

lowrank::Matrix<float> gaussian(std::int64_t rows, std::int64_t cols) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    lowrank::Matrix<float> matrix(rows, cols);
    for (float* x = matrix.data(); x != matrix.data() + matrix.size(); ++x) *x = normal(random);
    return matrix;
}

void run() {
    using lowrank::bf16;
    constexpr std::int64_t kSize = 192;
    constexpr std::int64_t kRank = 48;
    constexpr int kTokens = 8;
    const Engine engine;

    // Borrowed: the library uses the engine's stream and handles and leaves them as they are.
    lowrank::cuda::Context gpu({.stream = engine.stream, .blas = engine.blas, .blas_lt = engine.blas_lt});

    // Loading: the weight goes to the device once, and its factors never leave it.
    const auto weight = lowrank::cuda::to_device(gpu, gaussian(kSize, kSize));
    const auto factors = lowrank::decompose(gpu, weight, {.rank = lowrank::fixed_rank(kRank), .name = "q_proj"});
    const lowrank::cuda::LowRankLinear<bf16> q_proj(gpu, factors);

    // All memory of the loop is there before the loop.
    lowrank::Matrix<bf16, lowrank::cuda::DeviceSpace> x(1, kSize);
    lowrank::Matrix<bf16, lowrank::cuda::DeviceSpace> y(1, kSize);
    lowrank::cuda::Workspace workspace(q_proj.workspace_bytes(gpu, 1));
    q_proj.prepare(gpu, 1);

    // The engine's step, captured once and replayed for each token.
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t step = nullptr;
    Engine::check(cudaStreamBeginCapture(engine.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess, "no capture");
    q_proj.forward(gpu, x.view(), y.view(), workspace);
    Engine::check(cudaStreamEndCapture(engine.stream, &graph) == cudaSuccess, "no capture");
    Engine::check(cudaGraphInstantiate(&step, graph, 0) == cudaSuccess, "no graph");
    lowrank::Matrix<bf16> token(1, kSize);
    double sum = 0;
    for (int i = 0; i < kTokens; ++i) {
        token(0, i) = bf16(1.0F);
        lowrank::cuda::copy<bf16>(gpu, lowrank::const_view(token), x.view());
        Engine::check(cudaGraphLaunch(step, engine.stream) == cudaSuccess, "no launch");
        sum += static_cast<double>(lowrank::cuda::to_host(gpu, y)(0, i));
    }
    cudaGraphExecDestroy(step);
    cudaGraphDestroy(graph);
    std::printf("%s: q_proj %lld x %lld at rank %lld, relative error %.3f, %d tokens, sum %.4f\n",
                gpu.device().name.c_str(), static_cast<long long>(kSize), static_cast<long long>(kSize),
                static_cast<long long>(kRank), factors.relative_error, kTokens, sum);
}

}  // namespace

int main() {
    try {
        run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "embed_cuda: %s\n", error.what());
        return 1;
    }
    return 0;
}
