#include <lowrank/linear.hpp>

#include "catch.hpp"
#include "forward_reference.hpp"

#include <cstdint>
#include <cstring>
#include <vector>

using namespace lowrank;

using test::gaussian;

TEMPLATE_TEST_CASE("A dense layer is X W + b", "[linear]", float, double, bf16, f16) {
    using T = TestType;
    using C = compute_t<T>;
    const std::int64_t d_in = 37;
    const std::int64_t d_out = 21;
    const Matrix<T> stored = gaussian<T>(d_out, d_in, 1);
    const std::vector<float> bias(static_cast<std::size_t>(d_out), 0.25F);
    const Linear<T> layer(stored, WeightLayout::out_in, bias);
    CHECK(layer.d_in() == d_in);
    CHECK(layer.d_out() == d_out);
    CHECK(layer.parameters() == d_in * d_out + d_out);
    CHECK(layer.weight_bytes() >= sizeof(T) * d_in * d_out);
    const Matrix<T> w = layer.weight();
    for (std::int64_t i = 0; i < d_in; ++i) {
        for (std::int64_t j = 0; j < d_out; ++j) CHECK(std::memcmp(&w(i, j), &stored(j, i), sizeof(T)) == 0);
    }
    const cpu::Context cpu;
    for (const std::int64_t rows : {0, 1, 6, 40}) {
        const Matrix<T> x = gaussian<T>(rows, d_in, 3);
        Matrix<C> y(rows, d_out);
        Workspace workspace;
        layer.forward(cpu, x, y, workspace);
        CHECK(test::ForwardReference(x, w, static_cast<const Matrix<T>*>(nullptr), bias).outside(y.view()) == 0);
    }
}

TEST_CASE("A dense layer refuses a bias and matrices that do not fit", "[linear]") {
    const Matrix<float> w(8, 5);
    CHECK_THROWS_WITH(Linear<float>(w, WeightLayout::in_out, std::vector<float>(4)),
                      "a bias of 4 entries does not fit d_out = 5");
    const Linear<float> layer(w, WeightLayout::in_out);
    const cpu::Context cpu;
    CHECK_THROWS_WITH(layer.forward(cpu, Matrix<float>(2, 7)), "a layer of 8 x 5 cannot map X, 2 x 7, to Y, 2 x 5");
}
