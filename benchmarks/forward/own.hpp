// bench_forward's contenders: this library's layers, and Eigen, OpenBLAS and oneDNN where they are found.
// SPDX-License-Identifier: MIT
#pragma once

#include "../harness.hpp"

#include <lowrank/linear.hpp>
#include <lowrank/low_rank_linear.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace bench {

/// One case: shapes, and how much weight each contender goes round, so that it finds them in no cache.
struct Case {
    std::int64_t d_in, d_out, rank, rows;
    std::string type;
    double weight_bytes;  ///< 0: one layer, which stays in the caches

    [[nodiscard]] double dense_parameters() const { return static_cast<double>(d_in) * static_cast<double>(d_out); }
    [[nodiscard]] double low_rank_parameters() const {
        return static_cast<double>(rank) * static_cast<double>(d_in + d_out);
    }
    /// How many layers of so many bytes.
    [[nodiscard]] std::size_t copies(double bytes) const { return static_cast<std::size_t>(weight_bytes / bytes) + 1; }
};

/// Uniform numbers about 0, of the size of a trained model's.
template <class T>
lowrank::Matrix<T> uniform(std::int64_t rows, std::int64_t cols, std::uint32_t state) {
    lowrank::Matrix<T> matrix(rows, cols);
    for (T* x = matrix.data(); x != matrix.data() + matrix.size(); ++x) {
        state = state * 1664525U + 1013904223U;
        *x = static_cast<T>(static_cast<float>(state >> 8) * 0x1p-24F - 0.5F);
    }
    return matrix;
}

/// The stored matrices that a case's contenders make their layers from, and X.
template <class T>
struct Data {
    explicit Data(const Case& c)
        : w1(uniform<T>(c.d_in, c.rank, 1)), w2(uniform<T>(c.rank, c.d_out, 2)), w(uniform<T>(c.d_in, c.d_out, 3)) {}
    lowrank::Matrix<T> w1, w2, w;
};

/// Layers of one kind in turn, each with the same X and Y.
template <class T, class Layer>
Contender own_contender(std::string name, const lowrank::cpu::Context& context,
                        std::shared_ptr<const std::vector<Layer>> layers, const lowrank::Matrix<T>& x) {
    auto y = std::make_shared<lowrank::Matrix<T>>(x.rows(), layers->front().d_out());
    auto workspace = std::make_shared<lowrank::Workspace>();
    auto turn = std::make_shared<std::size_t>(0);
    return {std::move(name), [=, &context, &x](double seconds) {
                return time_calls(seconds, *turn, [&](std::size_t i) {
                    (*layers)[i % layers->size()].forward(context, x, y->view(), *workspace);
                });
            }};
}

template <class T>
std::shared_ptr<const std::vector<lowrank::LowRankLinear<T>>> low_rank_layers(const Case& c, const Data<T>& data) {
    auto layers = std::make_shared<std::vector<lowrank::LowRankLinear<T>>>();
    for (std::size_t i = c.copies(c.low_rank_parameters() * sizeof(T)); i > 0; --i) {
        layers->emplace_back(data.w1, data.w2, lowrank::WeightLayout::in_out);
    }
    return layers;
}

template <class T>
std::shared_ptr<const std::vector<lowrank::Linear<T>>> dense_layers(const Case& c, const Data<T>& data) {
    auto layers = std::make_shared<std::vector<lowrank::Linear<T>>>();
    for (std::size_t i = c.copies(c.dense_parameters() * sizeof(T)); i > 0; --i) {
        layers->emplace_back(data.w, lowrank::WeightLayout::in_out);
    }
    return layers;
}

}  // namespace bench
