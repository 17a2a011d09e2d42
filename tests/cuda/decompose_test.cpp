// What decompose() on the device promises beyond the contract that all backends share.
#include "device_backend.hpp"
#include "device_test.hpp"
#include "matrices.hpp"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

using namespace lowrank;
using test::Dense;

TEST_CASE("A strided weight on the device is read by its leading dimension and left as it was", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const Dense w = test::with_spectrum(20, 12, test::spectrum(test::Spectrum::even, 12, 10), 9);
    Matrix<float> padded(20, 17);
    std::fill_n(padded.data(), padded.size(), std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t i = 0; i < 20; ++i) {
        for (std::int64_t j = 0; j < 12; ++j) padded(i, j) = static_cast<float>(w(i, j));
    }
    const auto device = cuda::to_device(gpu, padded);
    for (const Method method : {Method::exact, Method::automatic}) {
        const auto factors = cuda::to_host(
            gpu, decompose(gpu, device.view().block(0, 0, 20, 12), {.rank = fixed_rank(12), .method = method}));
        CHECK((test::widened(factors.w1) * test::widened(factors.w2) - w).norm() < 1e-5 * w.norm());
        const Matrix<float> after = cuda::to_host(gpu, device);
        CHECK(std::memcmp(after.data(), padded.data(), padded.size() * sizeof(float)) == 0);
    }
}

TEST_CASE("A layer on the device is made straight from a weight", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const Dense w = test::with_spectrum(16, 24, test::spectrum(test::Spectrum::geometric, 16, 1e6), 13);
    const auto weight = cuda::to_device(gpu, test::rounded<float>(w.transpose()));
    const cuda::LowRankLinear<float> layer(gpu, weight, {.rank = fixed_rank(16), .layout = WeightLayout::out_in},
                                           std::vector<float>(24, 1.0F));
    Matrix<float> x(3, 16);
    for (std::int64_t i = 0; i < 3; ++i) x(i, i) = 1;
    const Matrix<float> y = cuda::to_host(gpu, layer.forward(gpu, cuda::to_device(gpu, x)));
    CHECK((test::widened(y) - (w.topRows(3).array() + 1).matrix()).cwiseAbs().maxCoeff() < 1e-5);
}

TEST_CASE("A steep spectrum is filtered with its columns rotated to Ritz vectors", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    constexpr int kOrder = 240;
    constexpr int kRank = 24;
    // One leading value above a slow decay: its filtered part drowns the others.
    std::vector<double> s(kOrder);
    double tail = 0;
    for (int i = 0; i < kOrder; ++i) {
        s[static_cast<std::size_t>(i)] = (i == 0 ? 20 : 1) / std::sqrt(1.0 + i);
        if (i >= kRank) tail += 1 / (1.0 + i);
    }
    const Dense w = test::with_spectrum(kOrder, kOrder, s, 21);
    const auto factors = cuda::to_host(gpu, decompose(gpu, cuda::to_device(gpu, test::rounded<float>(w)),
                                                      {.rank = fixed_rank(kRank), .method = Method::fast}));
    CHECK(factors.method == Method::fast);
    const double error = (test::widened(factors.w1) * test::widened(factors.w2) - w).norm();
    CHECK(error <= 1.001 * std::sqrt(tail));
}

TEST_CASE("Rules that go by the spectrum take the fast method on the device, too", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const Dense w = test::with_spectrum(240, 200, test::spectrum(test::Spectrum::power_law, 200, 1), 23);
    const auto device = cuda::to_device(gpu, test::rounded<float>(w));
    for (const RankRule& rule : {energy_kept(0.6), relative_error(0.5), energy_kept(0.7).aligned(8)}) {
        CAPTURE(rule.describe());
        const auto exact = cuda::to_host(gpu, decompose(gpu, device, {.rank = rule, .method = Method::exact}));
        const auto found = cuda::to_host(gpu, decompose(gpu, device, {.rank = rule}));
        CHECK(found.method == Method::fast);
        CHECK(std::abs(found.rank() - exact.rank()) <= 1 + exact.rank() / 100);  // a part of 1e-3 may decide it
        if (found.rank() == exact.rank()) CHECK(found.relative_error <= 1.001 * exact.relative_error);
    }
    // More than half of the rank: the exact method.
    CHECK(cuda::to_host(gpu, decompose(gpu, device, {.rank = energy_kept(0.9999)})).method == Method::exact);
}

TEST_CASE("Spectra and batches on the device are those of single decompositions", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const Dense w = test::with_spectrum(200, 120, test::spectrum(test::Spectrum::power_law, 120, 1), 17);
    const auto device = cuda::to_device(gpu, test::rounded<float>(w, 8));
    const Eigen::VectorXd exact = 8 * test::singular_values(w);
    for (const Method method : {Method::exact, Method::fast}) {
        const Spectrum spectrum = decompose_spectrum(gpu, device, 20, {.rank = fixed_rank(1), .method = method});
        CHECK(spectrum.method == method);
        REQUIRE(spectrum.values.size() == 20);
        // Backward stable: rows ulp of the largest. Of the norm a rounding of each entry.
        const double ulp = static_cast<double>(std::numeric_limits<float>::epsilon());
        if (method == Method::exact) {
            for (int i = 0; i < 20; ++i) {
                CHECK(std::abs(spectrum.values[static_cast<std::size_t>(i)] - exact(i)) < 200 * ulp * exact(0));
            }
        }
        CHECK(spectrum.values[0] == Approx(exact(0)).epsilon(1e-3));
        CHECK(spectrum.squared_norm == Approx(exact.squaredNorm()).epsilon(1e-5));
    }
    CHECK(decompose_spectrum(gpu, cuda::to_device(gpu, Matrix<float>(5, 4)), 2, {.rank = fixed_rank(1)}).squared_norm ==
          0);
    CHECK_THROWS_AS(decompose_spectrum(gpu, device, 121, {.rank = fixed_rank(1)}), ValueError);

    const auto other = cuda::to_device(gpu, test::rounded<float>(w.transpose().topRows(50)));
    const std::vector<MatrixView<const float, cuda::DeviceSpace>> weights{device.view(), other.view()};
    const std::vector<DecomposeOptions> options{{.rank = fixed_rank(9)}, {.rank = fixed_rank(5)}};
    const auto batch = decompose_batch(gpu, weights, options);
    REQUIRE(batch.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
        const auto found = cuda::to_host(gpu, batch[i]);
        const auto alone = cuda::to_host(gpu, decompose(gpu, weights[i], options[i]));
        REQUIRE(found.w1.size() == alone.w1.size());
        CHECK(std::memcmp(found.w1.data(), alone.w1.data(), alone.w1.size() * sizeof(float)) == 0);
        CHECK(std::memcmp(found.w2.data(), alone.w2.data(), alone.w2.size() * sizeof(float)) == 0);
    }
    const std::vector<DecomposeOptions> one{options[0]};
    CHECK_THROWS_AS(decompose_batch(gpu, weights, one), ShapeError);
}

#ifndef LOWRANK_TESTS_ON_DEVICE

TEST_CASE("A solver that does not converge, perturbs or lies is followed by the next", "[cuda]") {
    const Dense w = test::with_spectrum(30, 20, test::spectrum(test::Spectrum::power_law, 20, 1), 3);
    const auto check = [&](const std::vector<const char*>& expected) {
        cuda::Context gpu;
        const auto weight = cuda::to_device(gpu, test::rounded<float>(w));
        const auto factors =
            cuda::to_host(gpu, decompose(gpu, weight, {.rank = fixed_rank(20), .method = Method::exact}));
        CHECK((test::widened(factors.w1) * test::widened(factors.w2) - w).norm() < 1e-5 * w.norm());
        for (const char* routine : {"cusolverDnXgesvdp", "cusolverDnSgesvdj", "cusolverDnXgesvd"}) {
            CAPTURE(routine);
            CHECK((emulation::count(routine) == 1) ==
                  (std::find(expected.begin(), expected.end(), std::string(routine)) != expected.end()));
        }
    };
    const test::CleanDevice clean;
    check({"cusolverDnXgesvdp"});
    emulation::reset();
    emulation::set_info("cusolverDnXgesvdp", 3);
    check({"cusolverDnXgesvdp", "cusolverDnSgesvdj"});
    emulation::reset();
    emulation::set_perturbation(0.01);
    check({"cusolverDnXgesvdp", "cusolverDnSgesvdj"});
    emulation::reset();
    emulation::corrupt("cusolverDnXgesvdp");
    emulation::set_info("cusolverDnSgesvdj", 1);
    check({"cusolverDnXgesvdp", "cusolverDnSgesvdj", "cusolverDnXgesvd"});
}

TEMPLATE_TEST_CASE("A block that Cholesky-QR refuses goes through Householder QR", "[cuda]", float, double) {
    const test::CleanDevice clean;
    emulation::set_info("cusolverDnXpotrf", 2);
    cuda::Context gpu;
    const Dense w = test::with_spectrum(70, 60, test::spectrum(test::Spectrum::power_law, 60, 1), 3);
    const auto factors = cuda::to_host(gpu, decompose(gpu, cuda::to_device(gpu, test::rounded<TestType>(w)),
                                                      {.rank = fixed_rank(6), .method = Method::fast}));
    CHECK(factors.method == Method::fast);
    const Dense w1 = test::widened(factors.w1);
    CHECK((w1.transpose() * w1 - Dense::Identity(6, 6)).norm() < 1e-5);
    CHECK(emulation::count("cusolverDnXgeqrf") > 0);
    CHECK(emulation::count("cublasStrsm_64") + emulation::count("cublasDtrsm_64") == 0);
}

TEST_CASE("The eigensolver's failure is an error that names the weight", "[cuda]") {
    const test::CleanDevice clean;
    emulation::set_info("cusolverDnXsyevd", 5);
    cuda::Context gpu;
    const auto weight = cuda::to_device(gpu, contract::gaussian<float>(60, 50, 1));
    CHECK(test::message([&] {
              decompose(gpu, weight, {.rank = fixed_rank(4), .method = Method::fast, .name = "up_proj"});
          }) == "the eigensolver of decomposing up_proj, 60 x 50, did not converge on the device (info 5)");
}

TEST_CASE("double falls back from Xgesvdp to gesvdj as float does", "[cuda]") {
    const test::CleanDevice clean;
    emulation::set_info("cusolverDnXgesvdp", 1);
    cuda::Context gpu;
    const Dense w = test::with_spectrum(12, 20, test::spectrum(test::Spectrum::power_law, 12, 1), 3);
    const auto factors = cuda::to_host(gpu, decompose(gpu, cuda::to_device(gpu, test::rounded<double>(w)),
                                                      {.rank = fixed_rank(12), .method = Method::exact}));
    CHECK((test::widened(factors.w1) * test::widened(factors.w2) - w).norm() < 1e-13 * w.norm());
    CHECK(emulation::count("cusolverDnDgesvdj") == 1);
}

TEST_CASE("If every solver fails, the error says how each did", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    emulation::set_info("cusolverDnXgesvdp", 2);
    emulation::corrupt("cusolverDnSgesvdj");
    emulation::set_info("cusolverDnXgesvd", -4);
    const auto weight = cuda::to_device(gpu, contract::gaussian<float>(9, 12, 1));
    CHECK(
        test::message(
            [&] { decompose(gpu, weight, {.rank = fixed_rank(2), .method = Method::exact, .name = "up_proj"}); }) ==
        "the singular value decomposition of up_proj, 9 x 12, failed on the device: Xgesvdp did not converge (info 2); "
        "gesvdj gave factors that do not multiply to the weight; Xgesvd refused its argument 4");
}

TEST_CASE("A weight too large for the device is an error that names the bytes", "[cuda]") {
    const test::CleanDevice clean;
    cuda::Context gpu;
    const auto weight = cuda::to_device(gpu, contract::gaussian<float>(60, 50, 1));
    emulation::set_device_memory(40000);
    const std::string message = test::message(
        [&] { decompose(gpu, weight, {.rank = fixed_rank(2), .method = Method::exact, .name = "up_proj"}); });
    CHECK(message.find("decomposing up_proj, 60 x 50: cudaMalloc failed with cudaErrorMemoryAllocation (2): out of "
                       "memory; while allocating ") == 0);
    CHECK(message.find("of which 28000 of 40000 are free") != std::string::npos);
}

#endif
