#include <lowrank/cpu/sparse_image.hpp>

#include "../catch.hpp"
#include "../matrices.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>

using namespace lowrank;
using cpu::detail::sparse_image;
using test::Dense;

namespace {

/// The random block itself: the image of the identity.
Dense random_block(std::int64_t n, std::int64_t columns, std::uint64_t seed) {
    Matrix<double> identity(n, n);
    for (std::int64_t i = 0; i < n; ++i) identity(i, i) = 1;
    return test::widened(sparse_image(cpu::Context(), const_view(identity), columns, seed));
}

}  // namespace

TEST_CASE("Each row of the random block is eight signs at random places", "[sparse_image]") {
    for (const auto& [n, columns] : {std::pair{200, 30}, std::pair{64, 64}, std::pair{65, 64}, std::pair{70, 9},
                                     std::pair{7, 1}, std::pair{20, 3}}) {
        CAPTURE(n, columns);
        const Dense omega = random_block(n, columns, 3);
        int positive = 0;
        for (int i = 0; i < n; ++i) {
            int entries = 0;
            for (int j = 0; j < columns; ++j) {
                if (omega(i, j) == 0) continue;
                REQUIRE(std::abs(omega(i, j)) == 1);
                ++entries;
                positive += omega(i, j) > 0 ? 1 : 0;
            }
            REQUIRE(entries == std::min(8, columns));
        }
        // Half of the signs, up to five standard deviations.
        const double signs = n * std::min(8, columns);
        CHECK(std::abs(positive - signs / 2) <= 2.5 * std::sqrt(signs));
        for (const std::uint64_t other : {2U, 4U}) CHECK(random_block(n, columns, other) != omega);
    }
}

TEST_CASE("The image is the product with the random block, equal in bits for any number of threads", "[sparse_image]") {
    const int m = 70;
    const int n = 333;
    const int columns = 50;
    std::mt19937 random(1);
    std::normal_distribution<double> normal;
    const Dense a = Dense::NullaryExpr(m, n, [&] { return normal(random); });
    const Matrix<float> stored = test::rounded<float>(a);
    const Dense omega = random_block(n, columns, 9);
    cpu::ContextOptions one;
    one.threads = 1;
    const Matrix<float> image = sparse_image(cpu::Context(one), const_view(stored), columns, 9);
    // A sum of at most `terms` products with signs, in float.
    const double terms = omega.cwiseAbs().colwise().sum().maxCoeff();
    const double gamma = terms * static_cast<double>(std::numeric_limits<float>::epsilon()) / 2;
    const Dense bound = gamma * (test::widened(stored).cwiseAbs() * omega.cwiseAbs());
    const Dense error = (test::widened(image) - test::widened(stored) * omega).cwiseAbs();
    CHECK((error - bound).maxCoeff() <= 0);

    cpu::ContextOptions three;
    three.threads = 3;
    const Matrix<float> same = sparse_image(cpu::Context(three), const_view(stored), columns, 9);
    CHECK(std::equal(image.data(), image.data() + image.size(), same.data()));
}

// What subspace iteration needs: the block has a part of every direction of the wanted subspace. For normal entries the
// smallest singular value of that part is in the mean at least sqrt(columns) - sqrt(rank) (Gordon), times
// sqrt(8 / columns) here, as the mean square is 8 / columns. A sparse block has least to average over in subspaces of
// coordinates: neighbours, whose places are shifts of each other, in one stretch and across its border, and coordinates
// equally far apart.
TEST_CASE("The random block has a part of every direction", "[sparse_image]") {
    const int n = 960;
    const int columns = 90;
    const int rank = 80;
    const auto smallest = [&](const Dense& v, const Dense& omega) {
        const Eigen::VectorXd s = test::singular_values(v.transpose() * omega);
        return s(rank - 1) / (std::sqrt(8.0) * (1 - std::sqrt(static_cast<double>(rank) / columns)));
    };
    double worst = 1;
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        const Dense omega = random_block(n, columns, seed);
        std::mt19937 random(static_cast<unsigned>(seed));
        worst = std::min(worst, smallest(test::random_orthonormal(n, rank, random), omega));
        for (const auto& [first, step] :
             {std::pair{0, 1}, std::pair{50, 1}, std::pair{0, 2}, std::pair{7, 11}, std::pair{3, 12}}) {
            Dense v = Dense::Zero(n, rank);
            for (int k = 0; k < rank; ++k) v(first + k * step, k) = 1;
            worst = std::min(worst, smallest(v, omega));
        }
    }
    INFO("smallest part, in terms of a normal block's: " << worst);
    CHECK(worst > 0.3);
}
