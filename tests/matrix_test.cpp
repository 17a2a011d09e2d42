#include <lowrank/matrix.hpp>

#include "catch.hpp"

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

using lowrank::Matrix;
using lowrank::MatrixView;
using lowrank::ShapeError;

TEST_CASE("A view addresses row-major elements by its leading dimension", "[matrix]") {
    std::vector<int> data{0, 1, 2, 3, 4, 5, 6, 7};
    const MatrixView<int> view(data.data(), 2, 3, 4);
    CHECK(view(1, 2) == 6);
    CHECK(view.row(1) == data.data() + 4);
    const MatrixView<const int> block = view.block(0, 1, 2, 2);
    CHECK(block(1, 1) == 6);
    CHECK(block.leading_dimension() == 4);
}

TEST_CASE("Impossible views are refused", "[matrix]") {
    int x = 0;
    constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
    CHECK_THROWS_AS((MatrixView<int>(&x, -1, 1)), ShapeError);
    CHECK_THROWS_AS((MatrixView<int>(&x, 1, 2, 1)), ShapeError);
    CHECK_THROWS_AS((MatrixView<int>(nullptr, 1, 1)), ShapeError);
    CHECK_THROWS_AS((MatrixView<int>(&x, kHuge, kHuge)), ShapeError);
    CHECK_NOTHROW((MatrixView<int>(nullptr, 0, 5)));
    const MatrixView<int> view(&x, 1, 1);
    CHECK_THROWS_AS(view.block(0, 0, 2, 1), ShapeError);
    CHECK_THROWS_AS(view.block(1, 1, kHuge, 1), ShapeError);
    CHECK(view.block(1, 0, 0, 1).empty());
}

TEST_CASE("A matrix owns zeroed, aligned memory and copies and moves like a value", "[matrix]") {
    Matrix<float> a(3, 5);
    CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % 64 == 0);
    CHECK(a(2, 4) == 0);
    a(2, 4) = 7;
    Matrix<float> b = a;
    b(2, 4) = 8;
    CHECK(a(2, 4) == 7);
    const Matrix<float> c = std::move(b);
    CHECK(c(2, 4) == 8);
    CHECK(b.rows() == 0);  // NOLINT(bugprone-use-after-move): a moved-from matrix is empty
    a = c;
    CHECK(a(2, 4) == 8);
    CHECK(Matrix<float>(0, 4).view().empty());
    CHECK_THROWS_AS(Matrix<float>(-1, 4), ShapeError);
    CHECK_THROWS_AS(Matrix<float>(std::int64_t{1} << 40, std::int64_t{1} << 40), ShapeError);
}

namespace engine {
struct Tensor {
    std::vector<float> data;
    std::int64_t rows, cols;
};
MatrixView<const float> const_view(const Tensor& tensor) {
    return {tensor.data.data(), tensor.rows, tensor.cols};
}
}  // namespace engine

TEST_CASE("A host engine's own tensor serves as a matrix", "[matrix]") {
    STATIC_REQUIRE(lowrank::MatrixIn<engine::Tensor, lowrank::HostSpace>);
    STATIC_REQUIRE(lowrank::MatrixIn<Matrix<lowrank::bf16>, lowrank::HostSpace>);
    STATIC_REQUIRE_FALSE(lowrank::MatrixIn<std::vector<float>, lowrank::HostSpace>);
    STATIC_REQUIRE_FALSE(lowrank::MatrixIn<Matrix<int>, lowrank::HostSpace>);
}
