// The symmetric eigensolver and the orthonormalisation, by LAPACK's ratios.
#include <lowrank/cpu/orthonormalize.hpp>
#include <lowrank/cpu/symmetric_eigen.hpp>

#include "../catch.hpp"
#include "../forward_reference.hpp"
#include "../matrices.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace lowrank;
using test::Dense;

namespace {

/// LAPACK's dsyt21: |A - Z D Z^T| / (|A| n ulp) and |I - Z Z^T| / (n ulp), in double for float.
template <class T>
void check_eigen(const Dense& exact, double scale) {
    const Matrix<T> a = test::rounded<T>(exact, scale);
    for (const cpu::Isa isa : test::levels()) {
        const int threads = isa == cpu::detect_isa() ? 2 : 1;
        CAPTURE(isa_name(isa), threads);
        const cpu::Context context({.threads = threads, .isa = isa});
        const auto eigen = cpu::symmetric_eigen<T>(context, a.view());
        const Dense wide = test::widened(a, 1 / scale);
        const Dense vt = test::widened(eigen.vt);
        const std::int64_t n = a.rows();
        Eigen::VectorXd d(n);
        for (std::int64_t i = 0; i < n; ++i) d(i) = eigen.values[static_cast<std::size_t>(i)] / scale;
        for (std::int64_t i = 1; i < n; ++i) REQUIRE(d(i) <= d(i - 1));
        const double unit = 10 * static_cast<double>(n) * static_cast<double>(std::numeric_limits<T>::epsilon());
        CHECK(test::norm1(wide - vt.transpose() * d.asDiagonal() * vt) <= unit * test::norm1(wide));
        CHECK(test::norm1(Dense::Identity(n, n) - vt * vt.transpose()) <= unit);
        const auto values = cpu::symmetric_eigen<T>(context, a.view(), false);
        CHECK(values.vt.rows() == 0);
        for (std::int64_t i = 0; i < n; ++i) {
            const auto k = static_cast<std::size_t>(i);
            CHECK(std::abs(values.values[k] - eigen.values[k]) <= unit * scale * test::norm1(wide));
        }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("Eigenvalues and eigenvectors of symmetric matrices", "[eigen]", float, double) {
    for (const int n : {1, 2, 3, 10, 33, 150}) {
        std::mt19937 random(3);
        const Dense z = test::random_orthonormal(n, n, random);
        for (const auto kind : test::kSpectra) {
            std::vector<double> s = test::spectrum(kind, n, 1e6);
            for (std::size_t i = 0; i < s.size(); i += 3) s[i] = -s[i];  // indefinite
            CAPTURE(n, static_cast<int>(kind));
            const Dense a = z * Eigen::Map<const Eigen::VectorXd>(s.data(), n).asDiagonal() * z.transpose();
            check_eigen<TestType>((a + a.transpose()) / 2, 1);
        }
        // Of the first, reflections soon leave rounding of rounding, whose squares are out of range.
        check_eigen<TestType>(Dense::Ones(n, n), 1);
        check_eigen<TestType>(Dense::Zero(n, n), 1);
        check_eigen<TestType>(Dense::Identity(n, n), 1);
        check_eigen<TestType>(Dense::Ones(n, n), 1e-30);
        check_eigen<TestType>(Dense::Ones(n, n), 1e30);
    }
    CHECK(cpu::symmetric_eigen<TestType>(cpu::Context(), MatrixView<const TestType>()).values.empty());
    CHECK_THROWS_AS(cpu::symmetric_eigen<TestType>(cpu::Context(), Matrix<TestType>(2, 3).view()), ShapeError);
}

TEMPLATE_TEST_CASE("Blocks become orthonormal however they depend on each other", "[orthonormalize]", float, double) {
    const cpu::Context context({.threads = 2});
    const double ulp = static_cast<double>(std::numeric_limits<TestType>::epsilon());
    for (const double condition : {1.0, 1e3, 1e7, 1e15}) {
        const Dense w = test::with_spectrum(300, 150, test::spectrum(test::Spectrum::geometric, 150, condition), 5);
        Matrix<TestType> q = test::rounded<TestType>(w);
        Matrix<TestType> scratch(300, 150);
        cpu::orthonormalize(context, q, scratch, cpu::Orthonormal::to_working_accuracy);
        const Dense wide = test::widened(q);
        CAPTURE(condition);
        CHECK(test::norm1(Dense::Identity(150, 150) - wide.transpose() * wide) < 10 * 300 * ulp);
        // The leading directions of the span are still there: what is lost is of the size of the rounding.
        CHECK((w - wide * (wide.transpose() * w)).norm() < 10 * 300 * ulp * w.norm());
    }
    // Columns of very different norms are as good as equal ones: their scaling is no part of the condition.
    const Dense w = test::with_spectrum(300, 150, test::spectrum(test::Spectrum::geometric, 150, 10), 5);
    Matrix<TestType> scaled = test::rounded<TestType>(w);
    for (std::int64_t i = 0; i < 300; ++i) {
        for (std::int64_t j = 0; j < 150; ++j) scaled(i, j) = std::ldexp(scaled(i, j), static_cast<int>(j / 3));
    }
    Matrix<TestType> spare(300, 150);
    cpu::orthonormalize(context, scaled, spare, cpu::Orthonormal::to_working_accuracy);
    const Dense basis = test::widened(scaled);
    CHECK(test::norm1(Dense::Identity(150, 150) - basis.transpose() * basis) < 10 * 300 * ulp);
    CHECK((w - basis * (basis.transpose() * w)).norm() < 10 * 300 * ulp * w.norm());

    Matrix<TestType> twice(40, 20);  // rank deficient: ten columns, each twice
    for (std::int64_t i = 0; i < 40; ++i) {
        for (std::int64_t j = 0; j < 20; ++j) twice(i, j) = i == j % 10 ? TestType(1) : TestType(0);
    }
    Matrix<TestType> scratch(40, 20);
    cpu::orthonormalize(context, twice, scratch, cpu::Orthonormal::roughly);
    const Dense wide = test::widened(twice);
    CHECK((Dense::Identity(20, 20) - wide.transpose() * wide).norm() < 1e-4);
}
