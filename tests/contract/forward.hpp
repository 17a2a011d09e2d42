// The contract of LowRankLinear::forward, for any backend. A Backend has `Space`, `context()`, `upload`, `download`,
// `layer<T>(w1, w2, layout, bias)`, `stored(layer)` with the factors in T, and kIntermediateInStorageType.
#pragma once

#include "backend.hpp"
#include "catch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace contract {

using lowrank::bf16;
using lowrank::f16;
using lowrank::Matrix;
using lowrank::MatrixView;
using lowrank::WeightLayout;

/// Checks Y against sums in long double. Sums of K and r terms in a type of roundoff u err by at most
/// gamma_(K+r+2) times the same sums over absolute values (Higham 2002, section 3.5); a backend that stores X W1 and
/// the bias in the storage type T rounds each once more; the result is rounded once to Out.
template <class Backend, class T, class Out>
void check_forward(const Matrix<T>& x, const Matrix<T>& w1, const Matrix<T>& w2, const std::vector<float>& bias,
                   const Matrix<Out>& y) {
    const double terms = static_cast<double>(w1.rows() + w1.cols() + 2);
    const double u = roundoff<lowrank::compute_t<T>>();
    const double stored = Backend::kIntermediateInStorageType ? roundoff<T>() : 0;
    const double gamma = (1 + stored) * (terms * u / (1 - terms * u)) + stored;
    for (std::int64_t i = 0; i < x.rows(); ++i) {
        std::vector<long double> middle(static_cast<std::size_t>(w1.cols()));
        std::vector<long double> middle_abs(middle.size());
        for (std::int64_t k = 0; k < w1.rows(); ++k) {
            for (std::size_t r = 0; r < middle.size(); ++r) {
                const long double term = static_cast<long double>(static_cast<double>(x(i, k))) *
                                         static_cast<double>(w1(k, static_cast<std::int64_t>(r)));
                middle[r] += term;
                middle_abs[r] += std::abs(term);
            }
        }
        for (std::int64_t j = 0; j < w2.cols(); ++j) {
            long double sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(j)];
            long double sum_abs = std::abs(sum);
            for (std::size_t r = 0; r < middle.size(); ++r) {
                const auto w = static_cast<long double>(static_cast<double>(w2(static_cast<std::int64_t>(r), j)));
                sum += middle[r] * w;
                sum_abs += middle_abs[r] * std::abs(w);
            }
            const double bound = gamma * static_cast<double>(sum_abs) * (1 + roundoff<Out>()) +
                                 roundoff<Out>() * std::abs(static_cast<double>(sum)) + 1e-300;
            const double difference = std::abs(static_cast<double>(y(i, j)) - static_cast<double>(sum));
            if (!(difference <= bound)) {
                CAPTURE(i, j, difference, bound);
                REQUIRE(difference <= bound);
            }
        }
    }
}

template <class Backend, class T>
void forward_is_the_product_for_any_sizes() {
    Backend backend;
    for (const std::int64_t rows : {0, 1, 2, 5, 33}) {
        for (const auto& [d_in, rank, d_out] :
             {std::array<std::int64_t, 3>{1, 1, 1}, {7, 3, 5}, {64, 16, 48}, {113, 31, 97}}) {
            CAPTURE(rows, d_in, rank, d_out);
            const Matrix<T> w1 = gaussian<T>(d_in, rank, 1);
            const Matrix<T> w2 = gaussian<T>(rank, d_out, 2);
            const Matrix<T> x = gaussian<T>(rows, d_in, 3);
            for (const bool biased : {true, false}) {
                const std::vector<float> bias(biased ? static_cast<std::size_t>(d_out) : 0, 0.3F);
                const auto layer = backend.template layer<T>(w1, w2, WeightLayout::in_out, bias);
                CHECK(layer.parameters() == rank * (d_in + d_out) + (biased ? d_out : 0));
                typename Backend::Workspace workspace;
                const auto device_x = backend.upload(x);
                auto y = backend.upload(Matrix<T>(rows, d_out));
                layer.forward(backend.context(), device_x.view(), y.view(), workspace);
                check_forward<Backend, T, T>(x, w1, w2, bias, backend.download(y));
                if constexpr (!lowrank::ComputeScalar<T>) {
                    auto wide = backend.upload(Matrix<float>(rows, d_out));
                    layer.forward(backend.context(), device_x.view(), wide.view(), workspace);
                    check_forward<Backend, T, float>(x, w1, w2, bias, backend.download(wide));
                }
            }
        }
    }
}

/// Both layouts of the same factors give the same layer, and its factors are the given ones, bit for bit.
template <class Backend>
void layouts_agree() {
    Backend backend;
    const Matrix<bf16> w1 = gaussian<bf16>(12, 3, 1);
    const Matrix<bf16> w2 = gaussian<bf16>(3, 20, 2);
    Matrix<bf16> w1_transposed(3, 12);
    Matrix<bf16> w2_transposed(20, 3);
    for (std::int64_t k = 0; k < 3; ++k) {
        for (std::int64_t i = 0; i < 12; ++i) w1_transposed(k, i) = w1(i, k);
        for (std::int64_t j = 0; j < 20; ++j) w2_transposed(j, k) = w2(k, j);
    }
    const auto layer = backend.template layer<bf16>(w1_transposed, w2_transposed, WeightLayout::out_in, {});
    CHECK(layer.d_in() == 12);
    CHECK(layer.d_out() == 20);
    const auto [stored_w1, stored_w2] = backend.stored(layer);
    CHECK(std::memcmp(stored_w1.data(), w1.data(), w1.size() * sizeof(bf16)) == 0);
    CHECK(std::memcmp(stored_w2.data(), w2.data(), w2.size() * sizeof(bf16)) == 0);
}

/// X and Y may be strided at any offset, and nothing outside Y is written.
template <class Backend, class T>
void strided_views_are_read_and_written_in_place() {
    Backend backend;
    const Matrix<T> w1 = gaussian<T>(9, 4, 1);
    const Matrix<T> w2 = gaussian<T>(4, 7, 2);
    const auto layer = backend.template layer<T>(w1, w2, WeightLayout::in_out, {});
    const Matrix<T> x = gaussian<T>(5, 9, 3);
    Matrix<T> x_padded(5, 13);
    Matrix<T> y_padded(5, 11);
    std::fill_n(x_padded.data(), x_padded.size(), static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
    std::fill_n(y_padded.data(), y_padded.size(), static_cast<T>(42.0F));
    for (std::int64_t i = 0; i < 5; ++i) std::copy_n(x.row(i), 9, x_padded.row(i) + 1);
    const auto device_x = backend.upload(x_padded);
    auto device_y = backend.upload(y_padded);
    typename Backend::Workspace workspace;
    layer.forward(backend.context(), device_x.view().block(0, 1, 5, 9), device_y.view().block(0, 2, 5, 7), workspace);
    const Matrix<T> result = backend.download(device_y);
    Matrix<T> y(5, 7);
    for (std::int64_t i = 0; i < 5; ++i) std::copy_n(result.row(i) + 2, 7, y.row(i));
    check_forward<Backend, T, T>(x, w1, w2, {}, y);
    for (std::int64_t i = 0; i < 5; ++i) {
        for (const std::int64_t j : {0, 1, 9, 10}) CHECK(static_cast<float>(result(i, j)) == 42);
    }
}

template <class Backend>
void wrong_sizes_are_refused_with_the_sizes() {
    Backend backend;
    const Matrix<float> w1(8, 3);
    const Matrix<float> w2(3, 5);
    CHECK_THROWS_WITH(backend.template layer<float>(w1, Matrix<float>(4, 5), WeightLayout::in_out, {}),
                      "the factors do not fit together: W1 is 8 x 3, W2 is 4 x 5; d_in x r and r x d_out are needed");
    CHECK_THROWS_WITH(backend.template layer<float>(w1, w2, WeightLayout::in_out, std::vector<float>(4)),
                      "a bias of 4 entries does not fit d_out = 5");
    const auto layer = backend.template layer<float>(w1, w2, WeightLayout::in_out, {});
    typename Backend::Workspace workspace;
    auto y = backend.upload(Matrix<float>(2, 5));
    const auto narrow = backend.upload(Matrix<float>(2, 7));
    const auto tall = backend.upload(Matrix<float>(3, 8));
    CHECK_THROWS_AS(layer.forward(backend.context(), narrow.view(), y.view(), workspace), lowrank::ShapeError);
    CHECK_THROWS_AS(layer.forward(backend.context(), tall.view(), y.view(), workspace), lowrank::ShapeError);
}

}  // namespace contract
