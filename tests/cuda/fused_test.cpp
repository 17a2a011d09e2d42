#include <lowrank/cuda/fused.hpp>

#include "contract/forward.hpp"
#include "device_backend.hpp"
#include "device_test.hpp"

#ifndef LOWRANK_TESTS_ON_DEVICE
#include "emulation/fused_row.hpp"
#include "emulation/grid.hpp"
#endif

#include <array>
#include <string>
#include <vector>

using namespace lowrank;

namespace {

/// The fused kernel keeps the intermediate in float, but adds a bias that is stored in T.
struct FusedBackend : test::DeviceBackend {
    static constexpr bool kIntermediateInStorageType = false;
};

template <class T>
std::vector<float> representable_bias(std::int64_t count) {
    return std::vector<float>(static_cast<std::size_t>(count), 0.25F);
}

}  // namespace

TEMPLATE_TEST_CASE("The fused kernel computes one row of any size", "[cuda]", float, bf16, f16) {
    using T = TestType;
    const test::CleanDevice clean;
    FusedBackend backend;
    cuda::FusedRow fused(backend.context());
    for (const auto& [d_in, rank, d_out] : {std::array<std::int64_t, 3>{1, 1, 1},
                                            {7, 3, 5},
                                            {64, 16, 48},
                                            {300, 31, 97},
                                            {1031, 70, 131},
                                            {40, 9, 700}}) {
        CAPTURE(d_in, rank, d_out);
        const Matrix<T> w1 = contract::gaussian<T>(d_in, rank, 1);
        const Matrix<T> w2 = contract::gaussian<T>(rank, d_out, 2);
        const Matrix<T> x = contract::gaussian<T>(1, d_in, 3);
        const auto device_x = backend.upload(x);
        for (const bool biased : {true, false}) {
            const std::vector<float> bias = representable_bias<T>(biased ? d_out : 0);
            const auto layer = backend.layer<T>(w1, w2, WeightLayout::in_out, bias);
            REQUIRE(fused.takes(layer));
            auto y = backend.upload(Matrix<T>(1, d_out));
            for (int repeat = 0; repeat < 2; ++repeat) {  // the barrier's count goes on from launch to launch
                fused.forward(layer, device_x.view(), y.view());
                contract::check_forward<FusedBackend, T, T>(x, w1, w2, bias, backend.download(y));
            }
        }
    }
}

TEST_CASE("What the fused kernel does not take is refused", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    cuda::FusedRow fused(gpu);
    const cuda::LowRankLinear<float> layer(gpu, Matrix<float>(8, 2), Matrix<float>(2, 4), WeightLayout::in_out);
    const auto x = cuda::to_device(gpu, Matrix<float>(2, 8));
    Matrix<float, cuda::DeviceSpace> y(2, 4);
    CHECK_THROWS_AS(fused.forward(layer, std::as_const(x).view(), y.view()), ShapeError);
    const cuda::LowRankLinear<float> large(gpu, Matrix<float>(12000, 2), Matrix<float>(2, 4), WeightLayout::in_out);
    CHECK_FALSE(fused.takes(large));
    const auto long_x = cuda::to_device(gpu, Matrix<float>(1, 12000));
    CHECK(
        test::message([&] { fused.forward(large, std::as_const(long_x).view(), y.view().block(0, 0, 1, 4)); }) ==
        "the fused kernel needs 48048 bytes of shared memory for a layer of 12000 x 4 and has 48000; use forward() of "
        "the layer");
}

#ifndef LOWRANK_TESTS_ON_DEVICE

TEST_CASE("The kernels compile for each generation without spills, within their launch bounds", "[cuda]") {
    const std::string kNone = "bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
    for (const int generation : {80, 90, 100}) {
        CAPTURE(generation);
        const auto compiled = cuda::FusedRow::compile(generation);
        const std::string& log = compiled.log;
        CAPTURE(log);
        CHECK(compiled.cubin.size() > 1000);
        std::size_t kernels = 0;
        for (std::size_t at = 0; (at = log.find("bytes stack frame, ", at)) != std::string::npos; ++at) {
            CHECK(log.compare(at, kNone.size(), kNone) == 0);
            ++kernels;
        }
        CHECK(kernels == 3);
        // 65536 registers of a multiprocessor, 256 threads a block.
        for (std::size_t at = 0; (at = log.find("Used ", at)) != std::string::npos; ++at) {
            CHECK(std::stoi(log.substr(at + 5)) <= 255);
        }
    }
}

TEST_CASE("A source that does not compile is an error with the compiler's words", "[cuda]") {
    const std::string message = test::message([] { cuda::vendor::compile("__global__ void f() { undeclared; }", 90); });
    CHECK(message.find("nvrtcCompileProgram failed with NVRTC_ERROR_COMPILATION") == 0);
    CHECK(message.find("undeclared") != std::string::npos);
}

TEST_CASE("The kernel relies on no order of threads, and on no number of blocks", "[cuda]") {
    const Matrix<float> w1 = contract::gaussian<float>(4, 40, 1);  // transposed: rank 4, d_in 40
    const Matrix<float> w2 = contract::gaussian<float>(10, 4, 2);  // d_out 10
    const Matrix<float> x = contract::gaussian<float>(1, 40, 3);
    for (const unsigned blocks : {1U, 3U}) {
        std::vector<std::vector<float>> results;
        for (const int order : {0, 1}) {
            std::vector<float> y(10);
            std::vector<float> middle(4);
            unsigned long long barrier = 0;
            REQUIRE(emulation::run_fused_row(
                "lowrank_fused_row_f32",
                {x.data(), w1.data(), w2.data(), nullptr, y.data(), middle.data(), &barrier, 40, 4, 10, 40, 4}, blocks,
                64, (40 + 4 + 8) * sizeof(float), order));
            CHECK(barrier == blocks);
            results.push_back(y);
        }
        CHECK(results[0] == results[1]);
    }
}

TEST_CASE("The emulated grid waits as a grid does", "[emulation]") {
    using emulation::Grid;
    std::vector<float> seen(64);
    Grid(2, 32, 32 * sizeof(float), [&] {
        Grid& g = Grid::current();
        g.shared()[g.thread().x] = static_cast<float>(g.thread().x + 100 * g.block().x);
        g.block_barrier();
        const float neighbour = g.shared()[(g.thread().x + 1) % 32];
        seen[g.block().x * 32 + g.thread().x] = g.shuffle_down(neighbour, 1, 16);
    }).run();
    CHECK(seen[0] == 2);    // of lane 1, which read thread 2
    CHECK(seen[15] == 16);  // the last of its 16 keeps its own
    CHECK(seen[32 + 3] == 105);
    CHECK_THROWS_AS(Grid(1, 32, 0,
                         [] {
                             if (Grid::current().thread().x == 0) Grid::current().block_barrier();
                         })
                        .run(),
                    std::logic_error);
}

#endif
