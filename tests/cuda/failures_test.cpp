// Every vendor call of every operation fails in turn: each time the right error, nothing alive that should not be, and
// no result half written.
#include <lowrank/cuda/fused.hpp>

#include "device_backend.hpp"
#include "device_test.hpp"

#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

using namespace lowrank;

namespace {

/// Runs `operation` once for each of its vendor calls with that call failing, until it runs through without a failure.
/// Destructors and the clean-up after an error may fail silently: then the operation succeeds or another error is on
/// its way. Returns the names of the calls that failed with an error.
std::set<std::string> fail_each_call(const std::function<void()>& operation) {
    std::set<std::string> reported;
    for (long number = 0;; ++number) {
        CAPTURE(number);
        emulation::reset();
        emulation::fail_call(number);
        try {
            operation();
            if (!emulation::failed()) break;
            // Only what must not throw may fail without an error.
            const std::string& name = emulation::calls()[static_cast<std::size_t>(number)];
            CAPTURE(name);
            const bool silent = name.find("Destroy") != std::string::npos || name.find("Unload") != std::string::npos ||
                                name.find("Free") != std::string::npos || name == "cudaStreamSynchronize" ||
                                name == "cudaMemGetInfo";
            REQUIRE(silent);
        } catch (const cuda::DeviceError& error) {
            REQUIRE(emulation::failed());
            REQUIRE(error.call() == emulation::calls()[static_cast<std::size_t>(number)]);
            REQUIRE(std::string(error.what()).find(error.call() + " failed with ") != std::string::npos);
            reported.insert(error.call());
        }
        emulation::run_all();
        REQUIRE(emulation::violations() == std::vector<std::string>());
        REQUIRE(number < 2000);
    }
    emulation::reset();
    return reported;
}

}  // namespace

TEST_CASE("A context whose parts fail to start leaves nothing behind", "[cuda]") {
    const test::CleanDevice clean;
    const auto reported = fail_each_call([] {
        const cuda::Context gpu;
        static_cast<void>(gpu);
    });
    for (const char* call :
         {"cudaGetDeviceCount", "cudaGetDevice", "cudaGetDeviceProperties", "cudaStreamCreateWithFlags", "cublasCreate",
          "cublasSetStream", "cublasLtCreate", "cusolverDnCreate", "cusolverDnSetStream",
          "cusolverDnSetDeterministicMode", "cusolverDnCreateParams"}) {
        CAPTURE(call);
        CHECK(reported.count(call) == 1);
    }
    CHECK(emulation::alive() == "");
}

TEST_CASE("A decomposition in which any call fails leaves nothing behind", "[cuda]") {
    const test::CleanDevice clean;
    const Matrix<bf16> weight = contract::gaussian<bf16>(9, 14, 1);
    std::set<std::string> reported;
    for (const bool all_solvers : {false, true}) {
        const auto some = fail_each_call([&] {
            if (all_solvers) {
                emulation::set_info("cusolverDnXgesvdp", 1);
                emulation::corrupt("cusolverDnSgesvdj");
            }
            cuda::Context gpu;
            const auto device = cuda::to_device(gpu, weight);
            const auto factors =
                cuda::to_host(gpu, decompose(gpu, device, {.rank = fixed_rank(9), .method = Method::exact}));
            CHECK(factors.relative_error < 1e-5);
        });
        reported.insert(some.begin(), some.end());
    }
    for (const char* call :
         {"cudaMalloc", "cudaMemcpyAsync", "cublasGemmEx_64", "cublasSgeam_64", "cublasSdgmm_64", "cublasIsamax_64",
          "cublasSnrm2_64", "cublasSscal_64", "cudaStreamSynchronize", "cusolverDnXgesvdp_bufferSize",
          "cusolverDnXgesvdp", "cusolverDnCreateGesvdjInfo", "cusolverDnSgesvdj_bufferSize", "cusolverDnSgesvdj",
          "cusolverDnXgesvd_bufferSize", "cusolverDnXgesvd"}) {
        CAPTURE(call);
        CHECK(reported.count(call) == 1);
    }
}

TEST_CASE("A fast decomposition in which any call fails leaves nothing behind", "[cuda]") {
    const test::CleanDevice clean;
    const Matrix<float> weight = contract::gaussian<float>(40, 30, 1);
    std::set<std::string> reported;
    for (const bool ill_conditioned : {false, true}) {
        const auto some = fail_each_call([&] {
            if (ill_conditioned) emulation::set_info("cusolverDnXpotrf", 1);  // Householder QR must do
            cuda::Context gpu;
            const auto device = cuda::to_device(gpu, weight);
            const auto factors = cuda::to_host(
                gpu, decompose(gpu, device, {.rank = fixed_rank(4), .method = Method::fast, .excess = 0.01}));
            CHECK(factors.method == Method::fast);
        });
        reported.insert(some.begin(), some.end());
    }
    for (const char* call :
         {"cusolverDnXpotrf_bufferSize", "cusolverDnXpotrf", "cusolverDnXsyevd_bufferSize", "cusolverDnXsyevd",
          "cusolverDnXgeqrf_bufferSize", "cusolverDnXgeqrf", "cusolverDnSorgqr_bufferSize", "cusolverDnSorgqr",
          "cublasStrsm_64", "cudaMemcpy2DAsync"}) {
        CAPTURE(call);
        CHECK(reported.count(call) == 1);
    }
}

TEST_CASE("A fused launch in which any call fails leaves nothing behind", "[cuda]") {
    const test::CleanDevice clean;
    const auto compiled = cuda::FusedRow::compile(90);
    const auto reported = fail_each_call([&] {
        cuda::Context gpu;
        cuda::FusedRow fused(gpu, compiled);
        const cuda::LowRankLinear<float> layer(gpu, contract::gaussian<float>(8, 2, 1),
                                               contract::gaussian<float>(2, 4, 2), WeightLayout::in_out);
        const auto x = cuda::to_device(gpu, contract::gaussian<float>(1, 8, 3));
        Matrix<float, cuda::DeviceSpace> y(1, 4);
        fused.forward(layer, x.view(), y.view());
        static_cast<void>(cuda::to_host(gpu, y));
    });
    for (const char* call : {"cudaLibraryLoadData", "cudaLibraryGetKernel", "cudaLaunchKernelExC", "cudaMemsetAsync"}) {
        CAPTURE(call);
        CHECK(reported.count(call) == 1);
    }
}

TEST_CASE("Page-locked memory that is not to be had is an error", "[cuda]") {
    const test::CleanDevice clean;
    const auto reported = fail_each_call([] {
        const Matrix<float, cuda::PinnedSpace> pinned(3, 4);
        CHECK(pinned.rows() == 3);
    });
    CHECK(reported.count("cudaMallocHost") == 1);
}

TEST_CASE("A forward in which any call fails leaves nothing behind, and the layer works afterwards", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const Matrix<bf16> x = contract::gaussian<bf16>(3, 16, 3);
    const auto reported = fail_each_call([&] {
        cuda::Context own;
        const cuda::LowRankLinear<bf16> layer(own, contract::gaussian<bf16>(16, 4, 1),
                                              contract::gaussian<bf16>(4, 8, 2), WeightLayout::in_out,
                                              std::vector<float>(8, 1.0F));
        const auto device_x = cuda::to_device(own, x);
        static_cast<void>(cuda::to_host(own, layer.forward(own, device_x)));
    });
    for (const char* call : {"cublasLtMatmul", "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmulDescInit",
                             "cublasLtMatmulDescSetAttribute", "cublasLtMatmulPreferenceInit",
                             "cublasLtMatmulPreferenceSetAttribute", "cublasLtMatrixLayoutInit"}) {
        CAPTURE(call);
        CHECK(reported.count(call) == 1);
    }
    // A failed search is not remembered as a plan, and one layer survives failures of its context.
    const cuda::LowRankLinear<bf16> layer(gpu, contract::gaussian<bf16>(16, 4, 1), contract::gaussian<bf16>(4, 8, 2),
                                          WeightLayout::in_out);
    const auto device_x = cuda::to_device(gpu, x);
    emulation::fail("cublasLtMatmulAlgoGetHeuristic", 1);
    CHECK_THROWS_AS(layer.forward(gpu, device_x), cuda::DeviceError);
    CHECK(layer.forward(gpu, device_x).rows() == 3);
}
