// Roots of Gram matrices and products with triangles, against plain sums in double.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/gram_root.hpp>
#include <lowrank/cpu/triangular.hpp>

#include "../catch.hpp"
#include "../common.hpp"
#include "../matrices.hpp"

#include <cmath>
#include <limits>
#include <random>

using namespace lowrank;
using test::Dense;
using test::kCpu;

namespace {

Dense gaussian(std::int64_t rows, std::int64_t cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    return Dense::NullaryExpr(rows, cols, [&] { return normal(random); });
}

Dense whole(const cpu::GramRoot& root) {
    Dense s(root.width(), root.width());
    for (std::int64_t i = 0; i < root.width(); ++i) {
        for (std::int64_t j = 0; j < root.width(); ++j) {
            s(root.order[static_cast<std::size_t>(i)], j) = std::ldexp(root.lower(i, j), root.exponent);
        }
    }
    return s;
}

/// Row sizes from 1e-6 to 1e6.
Dense scaled_rows(Dense x) {
    for (std::int64_t j = 0; j < x.cols(); ++j) x.col(j) *= std::pow(10, static_cast<double>(j % 13) - 6);
    return x;
}

}  // namespace

TEST_CASE("A root gives the matrix back, entry by entry", "[gram_root]") {
    for (const std::int64_t n : {1, 2, 5, 63, 64, 65, 130, 200}) {
        for (const std::int64_t rows : {std::int64_t{1}, n / 2 + 1, 3 * n}) {
            for (const double damping : {0.0, 0.01}) {
                CAPTURE(n, rows, damping);
                const Dense x = scaled_rows(gaussian(rows, n, static_cast<unsigned>(n + rows)));
                Moments moments(n);
                moments.add(kCpu, test::rounded<double>(x));
                const cpu::GramRoot root = cpu::gram_root(kCpu, moments, damping);
                Dense a = test::widened(moments.gram(), 1 / static_cast<double>(rows));
                a += damping * a.diagonal().mean() * Dense::Identity(n, n);
                const Dense s = whole(root);
                const Dense rest = (s * s.transpose() - a).cwiseAbs();
                // The factorisation is backward stable, (n + 1) ulp sqrt(a_ii a_jj), and stops at n ulp of the scaled
                // diagonal; a rest below that on the diagonal is below it everywhere.
                const double allowed = 8 * static_cast<double>(n) * std::numeric_limits<double>::epsilon();
                bool accurate = true;
                bool triangular = true;
                for (std::int64_t i = 0; i < n; ++i) {
                    for (std::int64_t j = 0; j < n; ++j) {
                        accurate = accurate && rest(i, j) <= allowed * std::sqrt(a(i, i) * a(j, j));
                        triangular = triangular && std::abs(root.lower(i, j)) <= 1;
                        if (j > i || j >= root.rank) triangular = triangular && root.lower(i, j) == 0;
                    }
                }
                CHECK(accurate);
                CHECK(triangular);
                if (damping == 0) CHECK(root.rank <= std::min(n, rows));
                if (damping > 0) CHECK(root.rank == n);
            }
        }
    }
}

TEST_CASE("The root of a zero matrix is zero", "[gram_root]") {
    CHECK(cpu::gram_root(kCpu, Moments(7), 0.01).zero());
    CHECK(cpu::gram_root(kCpu, Moments(0)).zero());
}

TEST_CASE("Products and solutions with a triangle", "[gram_root]") {
    for (const std::int64_t n : {1, 7, 64, 65, 200, 600}) {
        const Dense l = Dense(gaussian(n, n, 1).triangularView<Eigen::Lower>()) / std::sqrt(static_cast<double>(n)) +
                        2 * Dense::Identity(n, n);
        const Dense a = gaussian(n, 9, 2);
        const Matrix<double> lower = test::rounded<double>(l);
        const Matrix<double> right = test::rounded<double>(a);
        const Matrix<double> left = test::rounded<double>(a.transpose());
        const auto near = [](const Matrix<double>& found, const Dense& expected) {
            return (test::widened(found) - expected).norm() <= 1e-13 * expected.norm();
        };
        CHECK(near(cpu::lower_times(kCpu, lower.view(), right.view()), l * a));
        CHECK(near(cpu::lower_transposed_times(kCpu, lower.view(), right.view()), l.transpose() * a));
        CHECK(near(cpu::times_lower(kCpu, left.view(), lower.view()), a.transpose() * l));
        const Matrix<double> upper = test::rounded<double>(l.transpose());
        Matrix<double> product(9, n);
        cpu::times_upper(kCpu, const_view(left), const_view(upper), product.view());
        CHECK(near(product, a.transpose() * l.transpose()));
        Matrix<double> solution = left;
        cpu::solve_lower_from_right(kCpu, lower.view(), solution.view());
        // The residual of a substitution is small whatever the condition (Higham 2002, theorem 8.5).
        const Dense found = test::widened(solution);
        CHECK((found * l - a.transpose()).norm() <= 1e-13 * static_cast<double>(n) * found.norm() * l.norm());
    }
}
