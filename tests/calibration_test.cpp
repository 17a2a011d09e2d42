// Moments against sums in long double, and what a Gram matrix cannot be.
// SPDX-License-Identifier: MIT
#include <lowrank/calibration.hpp>

#include "catch.hpp"
#include "common.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace lowrank;
using test::kCpu;
using test::message;

namespace {

/// Activations as they are: columns of very different size, a common offset, one huge column.
template <Scalar T>
Matrix<T> activations(std::int64_t rows, std::int64_t width, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    Matrix<T> x(rows, width);
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < width; ++j) {
            const double scale = j == 1 ? 3000 : std::exp(static_cast<double>(j % 7) - 3);
            x(i, j) = static_cast<T>(static_cast<float>(scale * (normal(random) + 0.5)));
        }
    }
    return x;
}

}  // namespace

TEMPLATE_TEST_CASE("Moments are the sums of the rows and of their products", "[calibration]", float, double, bf16,
                   f16) {
    constexpr std::int64_t kWidth = 37;
    const std::vector<std::int64_t> batches = {1, 0, 300, 5, 64, 2, 513};
    Moments moments(kWidth);
    using Sums = std::vector<long double>;
    Sums gram(kWidth * kWidth);
    Sums magnitude(kWidth * kWidth);
    Sums sum(kWidth);
    Sums sum_magnitude(kWidth);
    std::int64_t rows = 0;
    for (const std::int64_t count : batches) {
        const Matrix<TestType> x = activations<TestType>(count, kWidth, static_cast<unsigned>(count));
        moments.add(kCpu, x);
        rows += count;
        for (std::int64_t r = 0; r < count; ++r) {
            for (std::int64_t i = 0; i < kWidth; ++i) {
                const auto a = static_cast<long double>(static_cast<double>(x(r, i)));
                sum[static_cast<std::size_t>(i)] += a;
                sum_magnitude[static_cast<std::size_t>(i)] += std::abs(a);
                for (std::int64_t j = 0; j < kWidth; ++j) {
                    const auto at = static_cast<std::size_t>(i * kWidth + j);
                    const long double product = a * static_cast<long double>(static_cast<double>(x(r, j)));
                    gram[at] += product;
                    magnitude[at] += std::abs(product);
                }
            }
        }
    }
    CHECK(moments.rows() == rows);
    CHECK(moments.width() == kWidth);
    // The bound that the header states; long double's own rounding is 2^-11 of it.
    const auto gamma = [](std::int64_t k) { return static_cast<long double>(k) * std::ldexp(1.0L, -53) * 1.001L; };
    const auto k = rows + 3 * static_cast<std::int64_t>(batches.size());
    for (std::int64_t i = 0; i < kWidth; ++i) {
        const auto column = static_cast<std::size_t>(i);
        const auto error = std::abs(static_cast<long double>(moments.sum()[column]) - sum[column]);
        CHECK(error <= gamma(rows) * sum_magnitude[column]);
        CHECK(moments.mean()[column] == moments.sum()[column] / static_cast<double>(rows));
        for (std::int64_t j = 0; j < kWidth; ++j) {
            const auto at = static_cast<std::size_t>(i * kWidth + j);
            REQUIRE(std::abs(static_cast<long double>(moments.gram()(i, j)) - gram[at]) <= gamma(k) * magnitude[at]);
            REQUIRE(moments.gram()(i, j) == moments.gram()(j, i));
        }
    }
}

TEST_CASE("Moments of several workers add up", "[calibration]") {
    const Matrix<float> first = activations<float>(40, 9, 1);
    const Matrix<float> second = activations<float>(17, 9, 2);
    Moments together(9);
    together.add(kCpu, first);
    Moments other(9);
    other.add(kCpu, second);
    Moments merged = together;
    merged.merge(other);
    CHECK(merged.rows() == 57);
    for (std::int64_t i = 0; i < 9; ++i) {
        const auto column = static_cast<std::size_t>(i);
        CHECK(merged.sum()[column] == together.sum()[column] + other.sum()[column]);
        for (std::int64_t j = 0; j < 9; ++j) {
            CHECK(merged.gram()(i, j) == together.gram()(i, j) + other.gram()(i, j));
        }
    }
}

TEST_CASE("Moments of a strided view read by its leading dimension", "[calibration]") {
    const Matrix<float> x = activations<float>(12, 10, 3);
    Matrix<float> part(12, 4);
    for (std::int64_t i = 0; i < 12; ++i) std::memcpy(part.row(i), x.row(i) + 3, 4 * sizeof(float));
    Moments strided(4);
    strided.add(kCpu, x.view().block(0, 3, 12, 4));
    Moments contiguous(4);
    contiguous.add(kCpu, part);
    CHECK(std::memcmp(strided.gram().data(), contiguous.gram().data(), 16 * sizeof(double)) == 0);
}

TEST_CASE("Moments that cannot be are refused by name", "[calibration]") {
    Moments moments(4);
    CHECK(message([&] { moments.add(kCpu, Matrix<float>(3, 5)); }) ==
          "a batch of 3 x 5 does not add to sums over rows of 4");
    CHECK(message([&] { moments.merge(Moments(5)); }) == "sums over rows of 5 and of 4 do not add up");
    CHECK(moments.mean() == std::vector<double>(4));
    const auto with = [](std::int64_t i, std::int64_t j, double value) {
        Matrix<double> gram(2, 2);
        gram(i, j) = value;
        return message([&] { Moments(std::move(gram), {}, 3, "q_proj's inputs"); });
    };
    CHECK(with(1, 1, -1e-30) == "q_proj's inputs, 2 x 2, has a negative sum of squares at row 1, column 1");
    CHECK(with(0, 1, 1) == "q_proj's inputs, 2 x 2, is not symmetric at row 0, column 1");
    CHECK(with(0, 0, std::numeric_limits<double>::infinity()) ==
          "q_proj's inputs, 2 x 2, is not finite at row 0, column 0");
    CHECK(with(0, 1, std::numeric_limits<double>::quiet_NaN()) ==
          "q_proj's inputs, 2 x 2, is not finite at row 0, column 1");
    CHECK(message([] { Moments(Matrix<double>(2, 3), {}, 1, "h"); }).find("not square") != std::string::npos);
    CHECK(message([] { Moments(Matrix<double>(2, 2), {1, 2, 3}, 1, "h"); }).find("of 3") != std::string::npos);
    CHECK(message([] { Moments(Matrix<double>(2, 2), {}, -1, "h"); }).find("-1 rows") != std::string::npos);
    CHECK(message([] {
              Moments(Matrix<double>(1, 1), {std::numeric_limits<double>::quiet_NaN()}, 1, "h");
          }).find("a sum of rows that is not finite") != std::string::npos);
}

TEST_CASE("Moments without the sum of their rows add up, and stay without it", "[calibration]") {
    Matrix<float> x(3, 4);
    for (std::int64_t i = 0; i < 3; ++i) x(i, i) = 1;
    Moments unknown(Matrix<double>(4, 4), {}, 0, "g");
    unknown.add(kCpu, x);
    CHECK(unknown.rows() == 3);
    CHECK(unknown.gram()(1, 1) == 1);
    CHECK(unknown.sum().empty());
    Moments known(4);
    known.add(kCpu, x);
    unknown.merge(known);
    CHECK(unknown.rows() == 6);
    CHECK(unknown.sum().empty());
    known.merge(unknown);
    CHECK(known.gram()(1, 1) == 3);
    CHECK(known.sum().empty());
}
