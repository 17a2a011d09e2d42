// The fast method against known spectra: its error, its estimate of the excess, its limits.
#include <lowrank/decompose.hpp>

#include "catch.hpp"
#include "common.hpp"
#include "matrices.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace lowrank;
using test::Dense;
using test::error_norm;
using test::kCpu;

namespace {

enum class Shape { gaussian, power, steep, spiked, clustered, staircase, geometric, flat };
constexpr Shape kShapes[] = {Shape::gaussian,  Shape::power,     Shape::steep,     Shape::spiked,
                             Shape::clustered, Shape::staircase, Shape::geometric, Shape::flat};

std::vector<double> values(Shape shape, std::int64_t count, std::int64_t rank) {
    std::vector<double> s;
    for (std::int64_t i = 0; i < count; ++i) {
        const double t = static_cast<double>(i) / static_cast<double>(count);
        const double edge = 1 - 0.95 * t;  // decays evenly, much as a Gaussian matrix's do
        switch (shape) {
            case Shape::gaussian: s.push_back(edge); break;
            case Shape::power: s.push_back(std::pow(static_cast<double>(i + 1), -0.5)); break;
            case Shape::steep: s.push_back(std::pow(static_cast<double>(i + 1), -2)); break;
            case Shape::spiked: s.push_back(i < 5 ? 30 * edge : edge); break;
            case Shape::clustered: s.push_back(i < rank / 2 ? 1 : 0.3); break;
            case Shape::staircase: s.push_back(std::pow(2.0, -std::floor(10 * t))); break;
            case Shape::geometric: s.push_back(std::pow(1e3, -t)); break;
            case Shape::flat: s.push_back(1); break;
        }
    }
    return s;
}

double tail_norm(const std::vector<double>& s, std::int64_t rank) {
    double sum = 0;
    for (std::size_t i = s.size(); i-- > static_cast<std::size_t>(rank);) sum += s[i] * s[i];
    return std::sqrt(sum);
}

/// Rounding alone moves the product of float factors by this much: n ulp |W|, LAPACK's unit, as for the exact method.
double rounding(const Dense& w) {
    return 10 * static_cast<double>(std::max(w.rows(), w.cols())) * 0x1p-23 * w.norm();
}

}  // namespace

TEST_CASE("The fast method keeps the excess it promises, and its estimate of it can be trusted", "[decompose][fast]") {
    double worst = 0;
    for (const auto& [d_in, d_out] : {std::pair{300, 300}, std::pair{420, 240}, std::pair{240, 420}}) {
        const std::int64_t order = std::min(d_in, d_out);
        for (const Shape shape : kShapes) {
            for (const std::int64_t rank : {12, 40, 90}) {
                const std::vector<double> s = values(shape, order, rank);
                const Dense w = test::with_spectrum(d_in, d_out, s, 7);
                const Matrix<float> weight = test::rounded<float>(w);
                for (const double excess : {1e-2, 1e-3}) {
                    CAPTURE(d_in, d_out, static_cast<int>(shape), rank, excess);
                    const auto factors =
                        decompose(kCpu, weight, {.rank = fixed_rank(rank), .method = Method::fast, .excess = excess});
                    const double best = tail_norm(s, rank);
                    const double error = error_norm(w, factors);
                    REQUIRE(factors.method == Method::fast);
                    REQUIRE(error <= (1 + excess) * best + rounding(w));
                    REQUIRE(factors.relative_error * w.norm() == Approx(error).epsilon(1e-4).margin(rounding(w)));
                    REQUIRE(factors.excess <= excess);
                    // Below 1e-5 the rounding of the weight to float shows in the truth.
                    const double truth = error / best - 1;
                    if (truth > 1e-5) worst = std::max(worst, truth / factors.excess);
                }
            }
        }
    }
    WARN("the worst ratio of the true excess to its estimate: " << worst);
    CHECK(worst <= 2);  // what Factors::excess states
}

// The hardest start: each direction is one coordinate. And the hardest spectrum for the estimate: wanted values that
// lie close together above a gap, where few of the others decide how fast the filters separate them.
TEST_CASE("The excess holds for diagonal weights, with a gap behind the rank or without", "[decompose][fast]") {
    constexpr std::int64_t kOrder = 1024;
    double worst[2] = {};                            // by the usual start; of one pass
    for (const std::int64_t rank : {40, 60, 120}) {  // by the usual start; without the Gram matrix and with it
        for (const bool gap : {false, true}) {
            for (const unsigned seed : {1U, 2U, 3U, 4U}) {
                CAPTURE(rank, gap, seed);
                std::vector<double> s(kOrder);
                for (std::int64_t i = 0; i < kOrder; ++i) {
                    const auto x = static_cast<double>(i);
                    s[static_cast<std::size_t>(i)] = !gap       ? 1 / std::sqrt(x + 1)
                                                     : i < rank ? 1.2 - 0.2 * x / static_cast<double>(rank)
                                                                : 0.8 - 0.5 * x / kOrder;
                }
                std::vector<std::int64_t> places(kOrder);
                std::iota(places.begin(), places.end(), 0);
                std::mt19937 random(seed);
                std::shuffle(places.begin(), places.end(), random);
                Dense w = Dense::Zero(kOrder, kOrder);
                for (std::size_t i = 0; i < places.size(); ++i) w(places[i], places[i]) = s[i];
                const auto factors = decompose(kCpu, test::rounded<float>(w),
                                               {.rank = fixed_rank(rank), .method = Method::fast, .seed = seed});
                const double best = tail_norm(s, rank);
                const double truth = error_norm(w, factors) / best - 1;
                REQUIRE(factors.method == Method::fast);
                REQUIRE(truth <= 1e-3);
                REQUIRE(factors.excess <= 1e-3);
                double& one = worst[rank == 40 ? 0 : 1];
                if (truth > 1e-5) one = std::max(one, truth / factors.excess);
            }
        }
    }
    WARN("the worst ratios of the true excess to its estimate: " << worst[0] << ", " << worst[1]);
    CHECK(worst[0] <= 5);  // what Factors::excess states
    CHECK(worst[1] <= 2);
}

TEST_CASE("The fast method agrees with the exact one, in every type", "[decompose][fast]") {
    const Dense w = test::with_spectrum(200, 260, values(Shape::power, 200, 0), 3);
    const auto rank = GENERATE(std::int64_t{30}, std::int64_t{66});
    const auto check = [&](const auto& weight) {
        const Dense stored = test::widened(weight);
        const auto exact = decompose(kCpu, weight, {.rank = fixed_rank(rank), .method = Method::exact});
        const auto fast = decompose(kCpu, weight, {.rank = fixed_rank(rank), .method = Method::fast});
        REQUIRE(fast.method == Method::fast);
        const double best = error_norm(stored, exact);
        CHECK(error_norm(stored, fast) <= 1.001 * best + rounding(stored));
        CHECK(fast.relative_error == Approx(exact.relative_error).epsilon(1.1e-3));
        // Ritz values lie below the singular values, and miss together no more than the excess allows.
        double missing = 0;
        for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
            const auto s = static_cast<double>(exact.singular_values[i]);
            const auto ritz = static_cast<double>(fast.singular_values[i]);
            CHECK(ritz <= s * (1 + 1e-5));
            missing += s * s - ritz * ritz;
        }
        CHECK(missing <= 2.1e-3 * best * best + rounding(stored) * stored.norm());
    };
    check(test::rounded<float>(w));
    check(test::rounded<double>(w));
    check(test::rounded<bf16>(w));
    check(test::rounded<f16>(w));
}

TEST_CASE("Directions far below the first are found, or the method is the exact one", "[decompose][fast]") {
    for (const double power : {-1.5, -2.0, -3.0}) {
        std::vector<double> s;
        for (int i = 0; i < 240; ++i) s.push_back(std::pow(i + 1, power));
        const Dense w = test::with_spectrum(300, 240, s, 19);
        for (const std::int64_t rank : {20, 90}) {
            CAPTURE(power, rank);
            const auto factors =
                decompose(kCpu, test::rounded<double>(w), {.rank = fixed_rank(rank), .method = Method::fast});
            CHECK(error_norm(w, factors) <= 1.001 * tail_norm(s, rank) + 300 * 0x1p-52 * w.norm());
        }
    }
}

TEST_CASE("W1 of the fast method is orthonormal on either side", "[decompose][fast]") {
    const auto rank = GENERATE(std::int64_t{20}, std::int64_t{70});
    for (const auto& [d_in, d_out] : {std::pair{200, 270}, std::pair{270, 200}}) {
        const Dense w = test::with_spectrum(d_in, d_out, values(Shape::power, 200, 0), 5);
        for (const WeightLayout layout : {WeightLayout::in_out, WeightLayout::out_in}) {
            const Dense stored = layout == WeightLayout::in_out ? w : w.transpose();
            const auto factors = decompose(kCpu, test::rounded<float>(stored),
                                           {.rank = fixed_rank(rank), .layout = layout, .method = Method::fast});
            REQUIRE(factors.d_in() == d_in);
            REQUIRE(factors.d_out() == d_out);
            const Dense w1 = test::widened(factors.w1);
            CHECK((w1.transpose() * w1 - Dense::Identity(rank, rank)).norm() < 1e-4);
            CHECK(error_norm(w, factors) <= 1.001 * tail_norm(values(Shape::power, 200, 0), rank) + rounding(w));
        }
    }
}

TEST_CASE("Equal bits for any number of threads, another start for another seed", "[decompose][fast]") {
    const Matrix<float> weight =
        test::rounded<float>(test::with_spectrum(300, 200, values(Shape::gaussian, 200, 0), 9));
    const auto rank = GENERATE(std::int64_t{24}, std::int64_t{70});
    const auto run = [&](const cpu::Context& context, std::uint64_t seed) {
        return decompose(context, weight, {.rank = fixed_rank(rank), .method = Method::fast, .seed = seed});
    };
    const auto one = run(cpu::Context({.threads = 1}), 0);
    const auto equal = [&](const Factors<float>& other) {
        return std::memcmp(one.w1.data(), other.w1.data(), one.w1.size() * sizeof(float)) == 0 &&
               std::memcmp(one.w2.data(), other.w2.data(), one.w2.size() * sizeof(float)) == 0;
    };
    for (const int threads : {2, 3, 5}) CHECK(equal(run(cpu::Context({.threads = threads}), 0)));
    CHECK_FALSE(equal(run(cpu::Context({.threads = 2}), 1)));
}

TEST_CASE("Weights of low rank, alone and under noise", "[decompose][fast]") {
    std::vector<double> s = values(Shape::power, 30, 0);
    const Dense w = test::with_spectrum(200, 160, s, 11);
    for (const std::int64_t rank : {30, 40}) {  // the rank itself, and beyond it
        for (const Method method : {Method::fast, Method::automatic}) {
            const auto factors = decompose(kCpu, test::rounded<float>(w), {.rank = fixed_rank(rank), .method = method});
            CHECK(error_norm(w, factors) <= rounding(w));
            CHECK(factors.relative_error <= rounding(w) / w.norm());
        }
    }
    for (const double noise : {0.1, 1.0}) {
        std::vector<double> noisy = s;
        noisy.resize(160, noise * s.back());
        const Dense v = test::with_spectrum(200, 160, noisy, 12);
        const auto factors = decompose(kCpu, test::rounded<float>(v), {.rank = fixed_rank(30), .method = Method::fast});
        CHECK(error_norm(v, factors) <= 1.001 * tail_norm(noisy, 30) + rounding(v));
    }
    // A tail that float's Gram matrix has lost, and double's has not.
    s.resize(160, 1e-4 * s.back());
    const Dense tiny = test::with_spectrum(200, 160, s, 13);
    const auto factors = decompose(kCpu, test::rounded<double>(tiny), {.rank = fixed_rank(30), .method = Method::fast});
    CHECK(factors.method == Method::fast);
    CHECK(error_norm(tiny, factors) <= 1.001 * tail_norm(s, 30));
}

TEST_CASE("Ones, zeros, one row, one column, one entry", "[decompose][fast]") {
    for (const Method method : {Method::fast, Method::exact, Method::automatic}) {
        for (const auto& [rows, cols] : {std::pair{120, 90}, std::pair{1, 50}, std::pair{50, 1}, std::pair{1, 1}}) {
            for (const double value : {1.0, 0.0, -2.5}) {
                const Dense w = Dense::Constant(rows, cols, value);
                const auto factors =
                    decompose(kCpu, test::rounded<float>(w), {.rank = fixed_rank(1), .method = method});
                CAPTURE(rows, cols, value);
                CHECK(error_norm(w, factors) <= rounding(w));
                CHECK(factors.relative_error <= 1e-4);
            }
        }
    }
}

TEST_CASE("Huge, tiny and subnormal weights give the factors of their scale", "[decompose][fast]") {
    const std::vector<double> s = values(Shape::power, 200, 0);
    const Dense w = test::with_spectrum(230, 200, s, 15);
    const auto rank = GENERATE(std::int64_t{20}, std::int64_t{60});
    const auto check = [&](const auto& weight, double scale, double slack) {
        const auto factors = decompose(kCpu, weight, {.rank = fixed_rank(rank), .method = Method::fast});
        const Dense product = test::widened(factors.w1) * test::widened(factors.w2, 1 / scale);
        CAPTURE(scale);
        CHECK((w - product).norm() <= (1.001 + slack) * tail_norm(s, rank));
    };
    for (const double scale : {1e30, 1e-30, 1e8}) check(test::rounded<float>(w, scale), scale, 0);
    for (const double scale : {1e300, 1e-300}) check(test::rounded<double>(w, scale), scale, 0);
    check(test::rounded<float>(w, 1e-39), 1e-39, 1e-3);  // subnormal: 5 digits left in the weight
    check(test::rounded<bf16>(w, 1e30), 1e30, 1e-2);     // 2 digits in any case
    check(test::rounded<f16>(w, 1e4), 1e4, 1e-3);
}

TEST_CASE("Rules find their rank from a growing block, and the spectrum serves them all", "[decompose][fast]") {
    const std::vector<double> s = values(Shape::power, 400, 0);
    const Dense w = test::with_spectrum(400, 500, s, 17);
    const Matrix<float> weight = test::rounded<float>(w);
    const double norm = w.norm();
    for (const double error : {0.85, 0.7, 0.6}) {
        const auto factors = decompose(kCpu, weight, {.rank = relative_error(error)});
        std::int64_t least = 0;
        while (tail_norm(s, least) > error * norm) ++least;
        CHECK(factors.method == Method::fast);
        CHECK(factors.relative_error <= error);
        CHECK(factors.rank() >= least);
        CHECK(factors.rank() <= least + 1);  // an excess of 1e-3 is less than one singular value here
    }
    const auto energy = decompose(kCpu, weight, {.rank = energy_kept(0.5)});
    CHECK(energy.method == Method::fast);
    CHECK(1 - energy.relative_error * energy.relative_error >= 0.5);
    CHECK(decompose(kCpu, weight, {.rank = energy_kept(1)}).method == Method::exact);  // needs all of them

    const Spectrum spectrum = decompose_spectrum(kCpu, weight, 150, {.rank = fixed_rank(1)});
    REQUIRE(spectrum.values.size() == 150);
    CHECK(spectrum.squared_norm == Approx(norm * norm).epsilon(1e-6));
    for (std::size_t i = 0; i < 100; ++i) CHECK(spectrum.values[i] == Approx(s[i]).epsilon(1e-3));
    CHECK(spectrum.relative_error(150) == Approx(tail_norm(s, 150) / norm).epsilon(1.1e-3));
    CHECK(choose_rank(relative_error(0.7), 400, 500, spectrum).rank ==
          decompose(kCpu, weight, {.rank = relative_error(0.7)}).rank());
    CHECK_THROWS_AS(choose_rank(relative_error(0.01), 400, 500, spectrum), ValueError);
    CHECK_THROWS_AS(decompose_spectrum(kCpu, weight, 401, {.rank = fixed_rank(1)}), ValueError);
}

TEST_CASE("A batch gives what its layers give one by one, in any order of work", "[decompose][fast]") {
    std::vector<Matrix<float>> weights;
    std::vector<MatrixView<const float>> views;
    std::vector<DecomposeOptions> options;
    for (unsigned i = 0; i < 5; ++i) {
        weights.push_back(test::rounded<float>(test::with_spectrum(100 + 10 * i, 90, values(Shape::power, 90, 0), i)));
        options.push_back({.rank = fixed_rank(8 + i)});
    }
    for (const auto& weight : weights) views.push_back(weight.view());
    const cpu::Context serial({.threads = 1});
    const cpu::Context parallel({.threads = 3});
    const auto one = decompose_batch(serial, views, options);
    const auto many = decompose_batch(parallel, views, options);
    REQUIRE(one.size() == 5);
    for (std::size_t i = 0; i < one.size(); ++i) {
        const auto alone = decompose(kCpu, weights[i], options[i]);
        for (const auto* other : {&many[i], &alone}) {
            CHECK(std::memcmp(one[i].w2.data(), other->w2.data(), one[i].w2.size() * sizeof(float)) == 0);
        }
    }
    options.pop_back();
    CHECK_THROWS_AS(decompose_batch(kCpu, views, options), ShapeError);
    weights[2](3, 4) = std::numeric_limits<float>::quiet_NaN();
    options.push_back({.rank = fixed_rank(1)});
    options[2].name = "layers.2.q_proj";
    CHECK_THROWS_WITH(decompose_batch(kCpu, views, options),
                      Catch::Contains("layers.2.q_proj, 120 x 90, is not finite"));
}

TEST_CASE("An excess that is no positive number is refused", "[decompose][fast]") {
    const Matrix<float> weight = test::rounded<float>(test::with_spectrum(80, 80, values(Shape::power, 80, 0), 1));
    for (const double excess : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
        CHECK_THROWS_AS(decompose(kCpu, weight, {.rank = fixed_rank(4), .excess = excess}), ValueError);
    }
}
