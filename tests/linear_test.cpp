#include <lowrank/linear.hpp>

#include "catch.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

using namespace lowrank;

namespace {

template <class T>
Matrix<T> gaussian(std::int64_t rows, std::int64_t cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Matrix<T> matrix(rows, cols);
    for (T* x = matrix.data(); x != matrix.data() + matrix.size(); ++x) *x = static_cast<T>(normal(random));
    return matrix;
}

}  // namespace

TEMPLATE_TEST_CASE("A dense layer is X W + b", "[linear]", float, double, bf16, f16) {
    using T = TestType;
    using C = compute_t<T>;
    const std::int64_t d_in = 37;
    const std::int64_t d_out = 21;
    const Matrix<T> stored = gaussian<T>(d_out, d_in, 1);
    const Matrix<float> bias = gaussian<float>(1, d_out, 2);
    const Linear<T> layer(stored, WeightLayout::out_in, std::span(bias.data(), bias.size()));
    CHECK(layer.d_in() == d_in);
    CHECK(layer.d_out() == d_out);
    CHECK(layer.parameters() == d_in * d_out + d_out);
    CHECK(layer.weight_bytes() >= sizeof(T) * d_in * d_out);
    const Matrix<T> w = layer.weight();
    for (std::int64_t i = 0; i < d_in; ++i) {
        for (std::int64_t j = 0; j < d_out; ++j) CHECK(std::memcmp(&w(i, j), &stored(j, i), sizeof(T)) == 0);
    }
    const cpu::Context cpu;
    const double u = std::is_same_v<C, float> ? 0x1p-24 : 0x1p-53;
    for (const std::int64_t rows : {0, 1, 6, 40}) {
        const Matrix<T> x = gaussian<T>(rows, d_in, 3);
        Matrix<C> y(rows, d_out);
        Workspace workspace;
        layer.forward(cpu, x, y, workspace);
        for (std::int64_t i = 0; i < rows; ++i) {
            for (std::int64_t j = 0; j < d_out; ++j) {
                long double sum = bias(0, j);
                long double size = std::abs(sum);
                for (std::int64_t k = 0; k < d_in; ++k) {
                    const long double term =
                        static_cast<long double>(static_cast<double>(x(i, k))) * static_cast<double>(w(k, j));
                    sum += term;
                    size += std::abs(term);
                }
                // d_in products and additions, each rounded once (Higham 2002, section 3.1).
                const double terms = static_cast<double>(d_in + 1) * u;
                CHECK(std::abs(static_cast<double>(y(i, j) - sum)) <= terms / (1 - terms) * static_cast<double>(size));
            }
        }
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
