#include <lowrank/linear_group.hpp>
#include <lowrank/low_rank_linear.hpp>

#include "catch.hpp"
#include "count_allocations.hpp"
#include "forward_reference.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <thread>
#include <utility>
#include <vector>

using namespace lowrank;
using test::ForwardReference;
using test::gaussian;

TEST_CASE("Layers are made from factors, and give the stored weights back", "[low_rank_linear]") {
    Factors<float> factors;
    factors.w1 = gaussian<float>(12, 3, 1);
    factors.w2 = gaussian<float>(3, 20, 2);
    const LowRankLinear<bf16> layer(factors);
    CHECK(layer.parameters() == 3 * 32);
    const Matrix<bf16> w1 = layer.w1();
    for (std::int64_t i = 0; i < 12; ++i) {
        for (std::int64_t k = 0; k < 3; ++k) CHECK(w1(i, k).bits == bf16(factors.w1(i, k)).bits);
    }
    Matrix<bf16> w1_transposed(3, 12);
    Matrix<bf16> w2_transposed(20, 3);
    for (std::int64_t k = 0; k < 3; ++k) {
        for (std::int64_t i = 0; i < 12; ++i) w1_transposed(k, i) = bf16(factors.w1(i, k));
        for (std::int64_t j = 0; j < 20; ++j) w2_transposed(j, k) = bf16(factors.w2(k, j));
    }
    const LowRankLinear<bf16> stored(w1_transposed, w2_transposed, WeightLayout::out_in);
    CHECK(std::memcmp(stored.w1().data(), w1.data(), w1.size() * sizeof(bf16)) == 0);
    CHECK(stored.d_out() == 20);
}

TEST_CASE("X and Y may be strided, and nothing outside Y is written", "[low_rank_linear]") {
    const LowRankLinear<float> layer(gaussian<float>(9, 4, 1), gaussian<float>(4, 7, 2), WeightLayout::in_out);
    const Matrix<float> x = gaussian<float>(5, 9, 3);
    Matrix<float> x_padded(5, 13);
    Matrix<float> y_padded(5, 11);
    std::fill_n(x_padded.data(), x_padded.size(), std::numeric_limits<float>::quiet_NaN());
    std::fill_n(y_padded.data(), y_padded.size(), 42.0F);
    for (std::int64_t i = 0; i < 5; ++i) std::copy_n(x.row(i), 9, x_padded.row(i));
    const cpu::Context cpu;
    Workspace workspace;
    const MatrixView<float> y = y_padded.view().block(0, 2, 5, 7);
    layer.forward(cpu, x_padded.view().block(0, 0, 5, 9), y, workspace);
    const Matrix<float> w2 = layer.w2();
    CHECK(ForwardReference(x, layer.w1(), &w2, std::vector<float>()).outside(y) == 0);
    for (std::int64_t i = 0; i < 5; ++i) {
        for (const std::int64_t j : {0, 1, 9, 10}) CHECK(y_padded(i, j) == 42);
    }
}

TEST_CASE("Forward with a workspace allocates nothing, at any alignment of the workspace", "[low_rank_linear]") {
    const LowRankLinear<bf16> layer(gaussian<bf16>(100, 10, 1), gaussian<bf16>(10, 60, 2), WeightLayout::in_out);
    for (const int threads : {1, 2}) {
        const cpu::Context cpu({.threads = threads});
        for (const std::int64_t rows : {1, 3, 70}) {
            const Matrix<bf16> x = gaussian<bf16>(rows, 100, 3);
            Matrix<bf16> y(rows, 60);
            std::vector<std::byte> memory(layer.workspace_bytes(cpu, rows) + 1);
            layer.forward(cpu, x, y, std::span(memory));
            const long before = test::allocations;
            layer.forward(cpu, x, y, std::span(memory).subspan(1));
            CHECK(test::allocations == before);
            const Matrix<bf16> w2 = layer.w2();
            const ForwardReference reference(x, layer.w1(), &w2, std::vector<float>());
            CHECK(reference.outside(y.view(), test::Rounded::to_bf16) == 0);
        }
    }
}

TEST_CASE("Threads share one layer", "[low_rank_linear]") {
    const LowRankLinear<float> layer(gaussian<float>(64, 8, 1), gaussian<float>(8, 64, 2), WeightLayout::in_out);
    const Matrix<float> x = gaussian<float>(6, 64, 3);
    const Matrix<float> expected = layer.forward(cpu::Context({.threads = 1}), x);
    std::vector<Matrix<float>> results(4, Matrix<float>(6, 64));
    std::vector<std::thread> threads;
    threads.reserve(results.size());
    for (Matrix<float>& y : results) {
        threads.emplace_back([&] {
            const cpu::Context cpu({.threads = 1});
            Workspace workspace;
            for (int i = 0; i < 50; ++i) layer.forward(cpu, x, y, workspace);
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Matrix<float>& y : results) CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0);
}

TEST_CASE("Sizes that do not fit are refused with the sizes", "[low_rank_linear]") {
    const Matrix<float> w1(8, 3);
    const Matrix<float> w2(3, 5);
    CHECK_THROWS_WITH(LowRankLinear<float>(w1, Matrix<float>(4, 5), WeightLayout::in_out),
                      "the factors do not fit together: W1 is 8 x 3, W2 is 4 x 5; d_in x r and r x d_out are needed");
    CHECK_THROWS_WITH(LowRankLinear<float>(w1, w2, WeightLayout::in_out, std::vector<float>(4)),
                      "a bias of 4 entries does not fit d_out = 5");
    const LowRankLinear<float> layer(w1, w2, WeightLayout::in_out);
    const cpu::Context cpu;
    Workspace workspace;
    Matrix<float> y(2, 5);
    CHECK_THROWS_AS(layer.forward(cpu, Matrix<float>(2, 7), y, workspace), ShapeError);
    CHECK_THROWS_AS(layer.forward(cpu, Matrix<float>(3, 8), y, workspace), ShapeError);
    std::vector<std::byte> small(1);
    CHECK_THROWS_AS(layer.forward(cpu, Matrix<float>(2, 8), y, std::span(small)), ShapeError);
}

TEST_CASE("Factors that overflow the layer's type are refused", "[linear]") {
    Factors<float> factors;
    factors.w1 = Matrix<float>(3, 1);
    factors.w2 = Matrix<float>(1, 2);
    factors.w2(0, 1) = 70000;
    CHECK_THROWS_AS(LowRankLinear<f16>(factors), ValueError);
    CHECK(static_cast<float>(LowRankLinear<bf16>(factors).w2()(0, 1)) > 69000);
    factors.w2(0, 1) = std::numeric_limits<float>::infinity();  // of the caller's own: it propagates
    CHECK(!is_finite(LowRankLinear<f16>(factors).w2()(0, 1)));
}

TEST_CASE("Layers that were moved from are empty and say so", "[linear]") {
    const cpu::Context cpu;
    Factors<float> factors;
    factors.w1 = Matrix<float>(3, 1);
    factors.w2 = Matrix<float>(1, 2);
    LowRankLinear<float> layer(factors);
    const LowRankLinear<float> taken(std::move(layer));
    CHECK(taken.d_in() == 3);
    CHECK(layer.d_in() == 0);  // NOLINT(bugprone-use-after-move)
    CHECK(layer.w1().size() == 0);
    Matrix<float> x(1, 3);
    Matrix<float> y(1, 2);
    Workspace workspace;
    CHECK_THROWS_AS(layer.forward(cpu, x, y, workspace), ShapeError);
    LinearGroup<float> group(taken);
    const LinearGroup<float> moved(std::move(group));
    CHECK(moved.d_in() == 3);
    CHECK(group.d_in() == 0);  // NOLINT(bugprone-use-after-move)
    CHECK_THROWS_AS(group.forward(cpu, x, std::array{y.view()}, workspace), ShapeError);
}
