// Filters designed on what Lanczos shows of a spectrum: each part against what defines it, and what a pass costs.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/block_lanczos.hpp>
#include <lowrank/cpu/fast_decompose.hpp>
#include <lowrank/cpu/gram_operator.hpp>
#include <lowrank/filter_design.hpp>
#include <lowrank/filter_error.hpp>
#include <lowrank/subspace_iteration.hpp>

#include "catch.hpp"
#include "common.hpp"
#include "forward_reference.hpp"
#include "matrices.hpp"

#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace lowrank;
using namespace lowrank::detail;
using test::Dense;
using test::kCpu;

namespace {

std::vector<double> eigenvalues(std::int64_t order, double (*value)(double)) {
    std::vector<double> all;
    for (std::int64_t i = 0; i < order; ++i)
        all.push_back(value((static_cast<double>(i) + 1) / static_cast<double>(order)));
    return all;
}
double power(double t) {
    return 1e-2 / t;
}
double even(double t) {
    return std::pow(1 - 0.95 * t, 2);
}

/// Lanczos on a diagonal matrix.
template <class T>
cpu::detail::BlockLanczos<T> lanczos(const cpu::Context& context, const std::vector<double>& values,
                                     const Matrix<T>& start, int steps) {
    return cpu::detail::BlockLanczos<T>(context, start, steps, [&](const Matrix<T>& q, Matrix<T>& z) {
        for (std::int64_t i = 0; i < q.rows(); ++i) {
            for (std::int64_t j = 0; j < q.cols(); ++j)
                z(i, j) = static_cast<T>(values[static_cast<std::size_t>(i)]) * q(i, j);
        }
    });
}

}  // namespace

// The least sum of squares of a polynomial that is 1 at x is 1 / |R^-T b(x)|^2 for any basis b and the QR decomposition
// of its values at the points. With Chebyshev polynomials R has a condition number of order 10, and both sides are good
// to some thousand ulp; the sum is least, so errors of the zeros count squared.
TEST_CASE("The kernel filter has the least sum of squares over its points", "[filter_design]") {
    std::mt19937 random(1);
    for (const double least : {0.0, 0.2}) {
        std::vector<double> points(90);
        std::uniform_real_distribution<double> uniform(least, 1);
        for (double& point : points) point = std::pow(uniform(random), 2);
        for (const double x : {1.01, 1.3, 40.0}) {
            for (const int degree : {1, 2, 3, 6, 9}) {
                CAPTURE(least, x, degree);
                const ZerosFilter filter = kernel_filter(points, x, degree);
                REQUIRE(filter.degree() == degree);
                CHECK(std::is_sorted(filter.zeros.rbegin(), filter.zeros.rend()));
                CHECK(filter.zeros.back() > *std::min_element(points.begin(), points.end()));
                CHECK(filter.zeros.front() < *std::max_element(points.begin(), points.end()));
                double sum = 0;
                for (const double point : points) sum += std::pow(filter.value(point), 2);

                const auto basis = [&](double y) {
                    Eigen::VectorXd row(degree + 1);
                    for (int k = 0; k <= degree; ++k) row[k] = chebyshev_value(k, 1, y);
                    return row;
                };
                Dense values(90, degree + 1);
                for (std::size_t i = 0; i < points.size(); ++i)
                    values.row(static_cast<int>(i)) = basis(points[i]).transpose();
                const Dense r = Eigen::HouseholderQR<Dense>(values).matrixQR().topRows(degree + 1);
                const Eigen::VectorXd at_x = r.triangularView<Eigen::Upper>().transpose().solve(basis(x));
                CHECK(sum == Approx(1 / at_x.squaredNorm()).epsilon(1e-10));
            }
        }
    }
}

TEST_CASE("A filter for fewer points than its degree is 0 at them", "[filter_design]") {
    for (const std::vector<double>& different : {std::vector<double>{0.0}, {0.3}, {0.0, 0.5}, {0.1, 0.4, 0.7}}) {
        std::vector<double> points;
        for (int i = 0; i < 30; ++i) points.push_back(different[static_cast<std::size_t>(i) % different.size()]);
        for (const int degree : {1, 2, 5, 9}) {
            const ZerosFilter filter = kernel_filter(points, 1.5, degree);
            CAPTURE(different, degree);
            CHECK(filter.degree() == std::min<int>(degree, static_cast<int>(different.size())));
            if (degree < static_cast<int>(different.size())) continue;
            for (const double point : different) CHECK(std::abs(filter.value(point)) < 1e-12);
        }
    }
}

TEST_CASE("The parts of a filter multiply to the whole", "[filter_design]") {
    const ZerosFilter filter{{0.7, 0.4, 0.1}, 2};
    CHECK(filter.largest_below_zeros() == Approx(std::abs(filter.value(0))));  // -0.028, between the zeros less
    for (const double x : {0.0, 0.5, 3.0}) {
        CHECK(filter.value(x) == Approx((x - 0.7) * (x - 0.4) * (x - 0.1) / (1.3 * 1.6 * 1.9)));
        for (const int k : {0, 1, 2, 3})
            CHECK(filter.value_before(x, k) * filter.value_after(x, k) == Approx(filter.value(x)));
    }
}

// The values that one step adds stand for a range of places, of which the curve has the sum.
TEST_CASE("An eigenvalue curve keeps the sums that it is made of", "[filter_design]") {
    constexpr std::int64_t kOrder = 1200;
    constexpr std::int64_t kBlock = 10;
    LanczosSpectrum spectrum{{}, {}, kBlock};
    double weights = 0;
    for (int k = 0; k < 60; ++k) {
        spectrum.values.push_back(1 / (1.0 + k));
        spectrum.weights.push_back(1 + k);
        weights += 1 + k;
    }
    for (double& weight : spectrum.weights) weight /= weights;
    const EigenvalueCurve curve(spectrum, kOrder);
    double end = 0;
    for (std::size_t step = 0; step < 6; ++step) {
        const double begin = end;
        double sum = 0;
        for (std::size_t k = step * kBlock; k < (step + 1) * kBlock; ++k) {
            end += spectrum.weights[k] * kOrder;
            sum += spectrum.weights[k] * kOrder * spectrum.values[k];
        }
        if (step == 0) continue;  // those are told one by one
        constexpr int kPoints = 20000;
        double integral = 0;
        for (int i = 0; i < kPoints; ++i) integral += curve.at(begin + (i + 0.5) / kPoints * (end - begin));
        CHECK(integral / kPoints * (end - begin) == Approx(sum).epsilon(1e-6));  // the midpoint rule: h^2
    }
    for (std::size_t k = 0; k < kBlock; ++k) CHECK(curve.at(static_cast<double>(k) + 0.5) == spectrum.values[k]);
}

// Block Lanczos is Gauss quadrature: exact for polynomials of a degree below twice the steps. Rounding leaves some ulp
// of the largest eigenvalue, 1, in each of the values, and `power` times that in a moment.
TEST_CASE("The density of Lanczos has the moments of its start", "[filter_design]") {
    const std::vector<double> values = eigenvalues(240, even);
    const Matrix<double> start = test::gaussian<double>(240, 5, 3);
    const auto result = lanczos(kCpu, values, start, 4);
    const Dense q = Dense(Eigen::HouseholderQR<Dense>(test::widened(start)).householderQ() * Dense::Identity(240, 5));
    const auto check = [&](const LanczosSpectrum& spectrum, int steps) {
        REQUIRE(spectrum.values.size() == static_cast<std::size_t>(5 * steps));
        for (int power = 0; power < 2 * steps; ++power) {
            CAPTURE(steps, power);
            double moment = 0;
            for (std::size_t k = 0; k < spectrum.values.size(); ++k) {
                moment += spectrum.weights[k] * std::pow(spectrum.values[k], power);
            }
            double wanted = 0;
            for (std::int64_t i = 0; i < 240; ++i) {
                wanted += q.row(i).squaredNorm() * std::pow(values[static_cast<std::size_t>(i)], power) / 5;
            }
            CHECK(moment == Approx(wanted).epsilon(0).margin(1e-12));
        }
    };
    check(result.spectrum(), 4);
    check(result.shorter_spectrum(), 3);
}

// Some Ritz vectors converge within the steps, at which Lanczos without orthogonalisation would find them again; and an
// outlier makes the second block so ill-conditioned that normalising it brings the outlier back. Two passes of 8 n ulp
// each, for all columns together; the rows that combine them are orthonormal in double.
TEST_CASE("Vectors of Lanczos are orthonormal, and equal for any number of threads", "[filter_design]") {
    const auto outlier = GENERATE(1.0, 1e5, 1e9);
    std::vector<double> values = eigenvalues(500, power);
    values[7] *= outlier;
    const Matrix<float> start = test::gaussian<float>(500, 8, 4);
    const cpu::Context serial({.threads = 1});
    const auto one = lanczos(serial, values, start, 6);
    const Matrix<float> v = one.vectors(serial, 48);
    const Dense wide = test::widened(v);
    CAPTURE(outlier);
    CHECK((wide.transpose() * wide - Dense::Identity(48, 48)).norm() <= 16 * std::sqrt(48.0 * 500) * 0x1p-24);
    // Ritz values are eigenvalues of G + E, |E| of order sqrt(n) ulp |G|, on the span: below G's own.
    std::vector<double> descending = values;
    std::sort(descending.rbegin(), descending.rend());
    const std::vector<double> ritz = one.spectrum().values;
    for (std::size_t k = 0; k < ritz.size(); ++k) {
        CHECK(ritz[k] <= descending[k] + std::sqrt(500.0) * 0x1p-23 * descending[0]);
    }
    for (const int threads : {2, 3}) {
        const cpu::Context context({.threads = threads});
        const Matrix<float> other = lanczos(context, values, start, 6).vectors(context, 48);
        CHECK(std::memcmp(v.data(), other.data(), v.size() * sizeof(float)) == 0);
    }
}

// With all that is outside at one place, a residual tells exactly how much of it a vector holds: R^2 / (theta - mu)^2
// of its square, which costs (theta - mu) times that.
TEST_CASE("Residuals tell the shortfall", "[filter_design]") {
    const EstimatedSpectrum spectrum{{5, 4, 3, 2}, std::vector<double>(20, 2.0), 3};
    const SubspaceProblem problem{.order = 64, .long_side = 64, .rank = 2};
    const FilterError error(spectrum, problem);
    CHECK(error.tail() == Approx(3 + 2 + 20 * 3 * 2));
    const ZerosFilter filter{{1.5, 0.5}, 4};
    const std::vector<Residual> residuals{{0, 1, 0.09}, {1, 2, 0.04}};
    const auto squared = [&](double mu) { return std::pow(filter.value(mu), 2); };
    CHECK(error.shortfall(residuals, {5, 4, 3, 2}, squared) == Approx(0.09 / 3 + 2 * 0.04 / 2));
    // The block's last Ritz value shows that the spectrum lies higher by a tenth; or lower, by a tenth at most.
    CHECK(error.shortfall(residuals, {5, 4, 3, 2.2}, squared) == Approx(0.09 / 2.8 + 2 * 0.04 / 1.8));
    CHECK(error.shortfall(residuals, {5, 4, 3, 1}, squared) == Approx(0.09 / 3.2 + 2 * 0.04 / 2.2));
    // Also where the filter is 0 at all that is outside.
    CHECK(error.shortfall(residuals, {5, 4, 3, 2}, [](double) { return 0.0; }) == Approx(0.09 / 3 + 2 * 0.04 / 2));
    // Of directions 0 and 1, 60 outside take (x - 2) p(2)^2 / p(x)^2 each, over two columns beyond the rank.
    const auto taken = [&](double x) { return 60 * (x - 2) * std::pow(filter.value(2) / filter.value(x), 2) / 2; };
    CHECK(error.shortfall(filter) == Approx(taken(5) + taken(4)));
}

// Simulated: a block of normal numbers, multiplied factor by factor in double with errors of the stated size. What the
// errors add to the squares outside, over what the wanted directions hold, is what the model says: chi squared of 40
// columns and 196 directions.
TEST_CASE("The errors of rounded blocks cost what the model says", "[filter_design]") {
    constexpr std::int64_t kOrder = 200;
    constexpr std::int64_t kColumns = 40;
    const EstimatedSpectrum spectrum{{5, 4, 3, 2}, std::vector<double>(49, 1.0), 4};
    const SubspaceProblem problem{.order = kOrder, .long_side = kOrder, .rank = 2};
    const FilterError error(spectrum, problem);
    const ZerosFilter filter{{0.9, 0.5, 0.2}, 4};
    CHECK(error.amplification(filter, 0) == Approx(filter.value(5) / filter.value(4)));
    const double variance = 1e-6;
    Eigen::VectorXd g = Eigen::VectorXd::Ones(kOrder);
    g.head(4) << 5, 4, 3, 2;
    std::mt19937 random(5);
    std::normal_distribution<double> normal;
    const auto noise = [&] { return Dense::NullaryExpr(kOrder, kColumns, [&] { return normal(random); }).eval(); };
    const Dense start = noise();
    const auto filtered = [&](bool rounds) {
        Dense x = start;
        for (int k = 0; k < 3; ++k) {
            Dense multiplied = x;
            if (rounds && k > 0) {
                for (std::int64_t j = 0; j < kColumns; ++j) {
                    const double size = x.col(j).norm() / std::sqrt(static_cast<double>(kOrder));
                    multiplied.col(j) += std::sqrt(variance) * size * noise().col(j);
                }
            }
            const double zero = filter.zeros[static_cast<std::size_t>(k)];
            x = (g.asDiagonal() * multiplied - zero * x) / (filter.one - zero);
        }
        return x;
    };
    const Dense errors = filtered(true) - filtered(false);
    const double squares = errors.bottomRows(kOrder - 4).squaredNorm() / kColumns;
    double wanted = 0;
    for (const double x : {5.0, 4.0}) wanted += (x - 1) * squares / std::pow(filter.value(x), 2) / 2;
    CHECK(error.lost_to_rounding(filter, variance, 0, Between::nothing) == Approx(wanted).epsilon(0.3));
    // In an orthonormal block a column holds of the directions before it only what their first values leave: with a
    // leading one of 10^4 times the wanted values that is what counts.
    const EstimatedSpectrum steep{{4e4, 4, 3, 2}, spectrum.outside, 4};
    const FilterError of_steep(steep, problem);
    CHECK(of_steep.lost_to_rounding(filter, variance, 0, Between::orthonormal) <
          1e-3 * of_steep.lost_to_rounding(filter, variance, 0, Between::nothing));
}

namespace {

/// Counts the columns that G is multiplied with.
class CountedGram : public cpu::detail::GramOperator<float, float> {
public:
    using GramOperator::GramOperator;

    void apply(double alpha, const Block& q, double beta, Block& z) {
        columns += q.cols();
        GramOperator::apply(alpha, q, beta, z);
    }
    cpu::detail::BlockLanczos<float> lanczos(std::int64_t count, int steps) {
        columns += count * steps;
        return GramOperator::lanczos(count, steps);
    }
    std::vector<double> ritz_values(const Block& q, const Block& z) {
        iterated = true;
        return GramOperator::ritz_values(q, z);
    }

    std::int64_t columns = 0;
    bool iterated = false;
};

}  // namespace

// Blocks of products: Lanczos, half a block here, and the degree less one, as the first product is that of a sparse
// block. The usual start takes 5 for the power law and 6 for the Gaussian, and looks at Ritz values in between.
TEST_CASE("A designed pass does, with few products", "[filter_design][fast]") {
    constexpr std::int64_t kOrder = 640;
    constexpr std::int64_t kWanted = 96;
    const std::int64_t block = block_columns(kOrder, kWanted);
    const auto run = [&](const Matrix<float>& weight) {
        const double norm = test::widened(weight).squaredNorm();
        CountedGram gram(kCpu, const_view(weight), 1.0F, 1, block, 6);
        const auto problem = cpu::detail::subspace_problem<float>(kOrder, kOrder, kWanted, norm, 1e-3);
        const auto result = SubspaceIteration<CountedGram>(gram, problem).run();
        CHECK(result.end == SubspaceEnd::converged);
        CHECK(result.excess <= 1e-3);
        CHECK(!gram.iterated);
        return static_cast<double>(gram.columns) / static_cast<double>(block);
    };
    std::vector<double> s;
    for (std::int64_t i = 0; i < kOrder; ++i) s.push_back(std::pow(static_cast<double>(i + 1), -0.5));
    const double for_power = run(test::rounded<float>(test::with_spectrum(kOrder, kOrder, s, 5)));
    const double for_gaussian = run(test::gaussian<float>(kOrder, kOrder, 6));
    WARN("blocks of products: power law " << for_power << ", Gaussian " << for_gaussian);
    CHECK(for_power <= 3.5);
    CHECK(for_gaussian <= 5.5);
}
