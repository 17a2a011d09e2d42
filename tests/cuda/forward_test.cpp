// What forward() on the device promises beyond the contract that all backends share.
#include "device_backend.hpp"
#include "device_test.hpp"

#include <cstring>
#include <thread>
#include <vector>

using namespace lowrank;

namespace {

template <class T>
cuda::LowRankLinear<T> make_layer(cuda::Context& gpu, std::int64_t d_in, std::int64_t rank, std::int64_t d_out) {
    return {gpu, contract::gaussian<T>(d_in, rank, 1), contract::gaussian<T>(rank, d_out, 2), WeightLayout::in_out,
            std::vector<float>(static_cast<std::size_t>(d_out), 0.5F)};
}

template <class T>
bool same(const Matrix<T>& a, const Matrix<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE("Forward can be captured into a graph and replayed on new input", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const auto layer = make_layer<bf16>(gpu, 32, 8, 40);
    Matrix<bf16, cuda::DeviceSpace> x(3, 32);
    Matrix<bf16, cuda::DeviceSpace> y(3, 40);
    cuda::Workspace workspace(layer.workspace_bytes(gpu, 3));
    layer.prepare(gpu, 3);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    REQUIRE(cudaStreamBeginCapture(gpu.stream(), cudaStreamCaptureModeGlobal) == cudaSuccess);
    layer.forward(gpu, x.view(), y.view(), workspace);
    REQUIRE(cudaStreamEndCapture(gpu.stream(), &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    for (const unsigned seed : {5U, 6U}) {
        const Matrix<bf16> input = contract::gaussian<bf16>(3, 32, seed);
        cuda::copy(gpu, input.view(), x.view());
        REQUIRE(cudaGraphLaunch(exec, gpu.stream()) == cudaSuccess);
        const Matrix<bf16> replayed = cuda::to_host(gpu, y);
        CHECK(same(replayed, cuda::to_host(gpu, layer.forward(gpu, x.view()))));
    }
    CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
}

TEST_CASE("Threads share one layer, each with its context", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const auto layer = make_layer<float>(gpu, 24, 6, 20);
    const Matrix<float> x = contract::gaussian<float>(4, 24, 3);
    const Matrix<float> expected = cuda::to_host(gpu, layer.forward(gpu, cuda::to_device(gpu, x)));
    std::vector<Matrix<float>> results(4);
    std::vector<std::thread> threads;
    for (Matrix<float>& result : results) {
        threads.emplace_back([&] {
            cuda::Context mine;
            const auto device_x = cuda::to_device(mine, x);
            for (int i = 0; i < 10; ++i) result = cuda::to_host(mine, layer.forward(mine, device_x));
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Matrix<float>& result : results) CHECK(same(result, expected));
}

TEST_CASE("A workspace that is too small, or starts amiss, is refused", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu({.matmul_workspace_bytes = 5000});
    const auto layer = make_layer<float>(gpu, 8, 3, 5);
    const std::size_t bytes = layer.workspace_bytes(gpu, 2);
    CHECK(bytes == 5120 + 2 * 4 * sizeof(float));  // a multiple of 256, and the intermediate in padded rows
    const auto x = cuda::to_device(gpu, Matrix<float>(2, 8));
    Matrix<float, cuda::DeviceSpace> y(2, 5);
    Matrix<std::byte, cuda::DeviceSpace> memory(1, static_cast<std::int64_t>(bytes) + 16);
    layer.forward(gpu, x.view(), y.view(), memory.view().block(0, 0, 1, static_cast<std::int64_t>(bytes)));
    CHECK_THROWS_WITH(layer.forward(gpu, x.view(), y.view(), memory.view().block(0, 0, 1, 5151)),
                      "a workspace of 5151 bytes does not do: forward() of 2 rows needs 5152 bytes from a multiple of "
                      "256 on");
    CHECK_THROWS_AS(layer.forward(gpu, x.view(), y.view(), memory.view().block(0, 16, 1, 5152)), ShapeError);
}

#ifndef LOWRANK_TESTS_ON_DEVICE

TEST_CASE("After prepare(), forward() launches two products and does nothing else", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const auto layer = make_layer<bf16>(gpu, 64, 16, 48);
    layer.prepare(gpu, 33);
    cuda::Workspace workspace(layer.workspace_bytes(gpu, 33));
    const auto x = cuda::to_device(gpu, contract::gaussian<bf16>(33, 64, 1));
    Matrix<bf16, cuda::DeviceSpace> y(33, 48);
    for (const std::int64_t rows : {1, 2, 5, 33}) {
        CAPTURE(rows);
        emulation::reset();
        layer.forward(gpu, x.view().block(0, 0, rows, 64), y.view().block(0, 0, rows, 48), workspace);
        // Layouts and the bias are descriptors of the host.
        const std::vector<std::string> expected = {
            "cublasLtMatrixLayoutInit", "cublasLtMatrixLayoutInit",       "cublasLtMatrixLayoutInit",
            "cublasLtMatmul",           "cublasLtMatmulDescSetAttribute", "cublasLtMatrixLayoutInit",
            "cublasLtMatrixLayoutInit", "cublasLtMatrixLayoutInit",       "cublasLtMatmul"};
        CHECK(emulation::calls() == expected);
    }
    gpu.synchronise();
}

TEST_CASE("Rows of one bucket share a plan; views that are not aligned have their own", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const auto layer = make_layer<float>(gpu, 16, 4, 8);
    cuda::Workspace workspace;
    const auto x = cuda::to_device(gpu, Matrix<float>(9, 20));
    Matrix<float, cuda::DeviceSpace> y(9, 8);
    const auto searches = [&](std::int64_t rows, std::int64_t offset) {
        const long before = emulation::count("cublasLtMatmulAlgoGetHeuristic");
        layer.forward(gpu, x.view().block(0, offset, rows, 16), y.view().block(0, 0, rows, 8), workspace);
        return emulation::count("cublasLtMatmulAlgoGetHeuristic") - before;
    };
    CHECK(searches(5, 0) == 2);
    CHECK(searches(6, 0) == 0);
    CHECK(searches(8, 0) == 0);
    CHECK(searches(9, 0) == 2);
    CHECK(searches(9, 1) == 1);  // only X lies differently
    CHECK(searches(8, 1) == 1);
    gpu.synchronise();
}

TEST_CASE("A product that cuBLASLt cannot do is an error that names the layer", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const auto layer = make_layer<float>(gpu, 16, 4, 8);
    emulation::set_no_algorithms();
    CHECK(test::message([&] { layer.prepare(gpu, 1); }) ==
          "cuBLASLt has no algorithm for forward() of a layer of 16 x 8, rank 4");
}

#endif
