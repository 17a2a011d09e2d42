// LAPACK's own checks of an SVD (TESTING/EIG: dbdt01, dort01, ddrvbd), evaluated in double for float. For double the
// check itself rounds like the result, which the ratios allow for: both count in units of n ulp.
#include <lowrank/cpu/compiled/decompose.hpp>
#include <lowrank/cpu/svd.hpp>

#include "../catch.hpp"
#include "../common.hpp"
#include "../matrices.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

using namespace lowrank;
using test::Dense;
using test::kCpu;

namespace {

// LAPACK fails a ratio from 50 on; Eigen's solvers stay below 4, so 10 tells of a change for the worse.
constexpr double kRatio = 10;

/// The input, scaled back to a norm of about 1 so that the check itself neither overflows nor underflows.
template <class T>
void check_svd(const Matrix<T>& a, double scale) {
    const cpu::Svd<T> svd = cpu::full_svd<T>(kCpu, a.view(), "test");
    const std::int64_t k = std::min(a.rows(), a.cols());
    REQUIRE(static_cast<std::int64_t>(svd.s.size()) == k);
    if (k == 0) return;
    const Dense wide = test::widened(a, 1 / scale);
    const Dense u = test::widened(svd.ut).transpose();
    const Dense v = test::widened(svd.vt).transpose();
    Eigen::VectorXd s(k);
    for (std::int64_t i = 0; i < k; ++i) s(i) = static_cast<double>(svd.s[static_cast<std::size_t>(i)]) / scale;
    const double ulp = static_cast<double>(std::numeric_limits<T>::epsilon());
    const auto m = static_cast<double>(std::max<std::int64_t>(a.rows(), 1));
    const auto n = static_cast<double>(std::max<std::int64_t>(std::max(a.rows(), a.cols()), 1));
    const double norm = test::norm1(wide);
    const double largest = wide.cwiseAbs().maxCoeff();

    for (std::int64_t i = 0; i < k; ++i) {
        REQUIRE(s(i) >= 0);
        REQUIRE((i == 0 || s(i) <= s(i - 1)));
    }
    REQUIRE(test::norm1(Dense::Identity(k, k) - u.transpose() * u) < kRatio * m * ulp);
    REQUIRE(test::norm1(Dense::Identity(k, k) - v.transpose() * v) < kRatio * n * ulp);
    // `<=` where both sides are 0, for the zero matrix; NaN fails either way.
    REQUIRE(test::norm1(wide - u * s.asDiagonal() * v.transpose()) <= kRatio * norm * n * ulp);
    const std::int64_t r = (k + 1) / 2;
    const Dense core = u.leftCols(r).transpose() * wide * v.leftCols(r);
    REQUIRE((Dense(s.head(r).asDiagonal()) - core).cwiseAbs().maxCoeff() <= kRatio * largest * n * ulp);
    const Dense truncated = u.leftCols(r) * s.head(r).asDiagonal() * v.leftCols(r).transpose();
    REQUIRE(std::abs((wide - truncated).squaredNorm() - s.tail(k - r).squaredNorm()) <=
            kRatio * wide.squaredNorm() * n * ulp);
}

constexpr std::pair<int, int> kShapes[] = {{0, 0},   {0, 1},   {0, 3},   {1, 0},   {1, 1},   {1, 2},   {2, 0},
                                           {2, 1},   {3, 0},   {3, 1},   {3, 3},   {10, 10}, {10, 16}, {16, 10},
                                           {16, 16}, {30, 30}, {30, 40}, {40, 30}, {40, 40}, {1, 300}, {300, 1}};

}  // namespace

TEMPLATE_TEST_CASE("LAPACK's ratios hold for its shapes, spectra and scales", "[svd]", float, double) {
    const double ulp = static_cast<double>(std::numeric_limits<TestType>::epsilon());
    const double smallest = static_cast<double>(std::numeric_limits<TestType>::min());
    for (const auto& [rows, cols] : kShapes) {
        const std::int64_t k = std::min(rows, cols);
        for (const double scale : {1.0, smallest / ulp, ulp / smallest}) {
            CAPTURE(rows, cols, scale);
            check_svd(Matrix<TestType>(rows, cols), 1);
            check_svd(test::rounded<TestType>(Dense::Identity(rows, cols), scale), scale);
            for (const auto kind : test::kSpectra) {
                for (const double condition : {10.0, 0.1 / ulp, 1 / ulp}) {
                    CAPTURE(static_cast<int>(kind), condition);
                    const Dense a = test::with_spectrum(rows, cols, test::spectrum(kind, k, condition), 3);
                    check_svd(test::rounded<TestType>(a, scale), scale);
                }
            }
        }
    }
}

TEMPLATE_TEST_CASE("LAPACK's ratios hold where the blocked code runs", "[svd]", float, double) {
    for (const auto& [rows, cols] : {std::pair{200, 200}, std::pair{260, 130}, std::pair{130, 260}}) {
        for (const auto kind : test::kSpectra) {
            CAPTURE(rows, cols, static_cast<int>(kind));
            const Dense a = test::with_spectrum(rows, cols, test::spectrum(kind, std::min(rows, cols), 1e6), 5);
            check_svd(test::rounded<TestType>(a), 1);
        }
    }
}

TEST_CASE("Subnormal and rank-deficient matrices decompose", "[svd]") {
    Matrix<float> ones(37, 23);
    std::fill_n(ones.data(), ones.size(), 1.0F);
    check_svd(ones, 1);
    Matrix<float> tiny(20, 18);
    for (std::int64_t i = 0; i < 18; ++i) tiny(i, i) = std::numeric_limits<float>::denorm_min();
    const auto svd = cpu::full_svd<float>(kCpu, tiny.view(), "tiny");
    for (const float s : svd.s) CHECK(s == std::numeric_limits<float>::denorm_min());
}
