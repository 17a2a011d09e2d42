// bench_forward's peer oneDNN: matmul primitives with weights in the layout that it chooses itself.
// SPDX-License-Identifier: MIT
#pragma once

#include "own.hpp"

#ifdef BENCH_ONEDNN
#include <dnnl.hpp>

#include <type_traits>
#include <unordered_map>
#include <utility>

namespace bench {

/// Y = X W with many copies of W.
template <class T>
class OneDnnProduct {
public:
    OneDnnProduct(const dnnl::engine& engine, dnnl::stream& stream, const lowrank::Matrix<T>& w, std::int64_t rows,
                  std::size_t copies)
        : primitive_([&] {
              using Tag = dnnl::memory::format_tag;
              const dnnl::memory::desc x(dims(rows, w.rows()), kType, Tag::ab);
              const dnnl::memory::desc any(dims(w.rows(), w.cols()), kType, Tag::any);
              const dnnl::memory::desc y(dims(rows, w.cols()), kType, Tag::ab);
              return dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, any, y), engine);
          }()),
          matmul_(primitive_) {
        const dnnl::memory::desc plain(dims(w.rows(), w.cols()), kType, dnnl::memory::format_tag::ab);
        dnnl::memory source(plain, engine, const_cast<T*>(w.data()));  // NOLINT: oneDNN has no view of const memory
        for (std::size_t i = 0; i < copies; ++i) {
            weights_.emplace_back(primitive_.weights_desc(), engine);
            dnnl::reorder(source, weights_.back()).execute(stream, source, weights_.back());
        }
        stream.wait();
    }

    void run(dnnl::stream& stream, std::size_t i, dnnl::memory& x, dnnl::memory& y) const {
        matmul_.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weights_[i]}, {DNNL_ARG_DST, y}});
    }
    [[nodiscard]] std::size_t copies() const { return weights_.size(); }

    static dnnl::memory memory(const dnnl::engine& engine, const lowrank::Matrix<T>& m) {
        const dnnl::memory::desc plain(dims(m.rows(), m.cols()), kType, dnnl::memory::format_tag::ab);
        return {plain, engine, const_cast<T*>(m.data())};  // NOLINT: as above
    }

private:
    static constexpr auto kType =
        std::is_same_v<T, float> ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
    static dnnl::memory::dims dims(std::int64_t rows, std::int64_t cols) { return {rows, cols}; }

    dnnl::matmul::primitive_desc primitive_;
    dnnl::matmul matmul_;
    std::vector<dnnl::memory> weights_;
};

/// Whether the library has products of this type here: Debian's has bf16 with AVX-512 only.
template <class T>
bool onednn_supports() {
    try {
        const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
        dnnl::stream stream(engine);
        const OneDnnProduct<T> probe(engine, stream, lowrank::Matrix<T>(1, 1), 1, 1);
        return probe.copies() == 1;
    } catch (const dnnl::error&) {
        return false;
    }
}

/// "onednn" and "onednn:dense", in float and bf16.
template <class T>
void add_onednn(std::vector<Contender>& contenders, const Case& c, const Data<T>& data, const lowrank::Matrix<T>& x) {
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    const auto stream = std::make_shared<dnnl::stream>(engine);
    const std::size_t low_rank = c.copies(c.low_rank_parameters() * sizeof(T));
    using Product = OneDnnProduct<T>;
    const auto first = std::make_shared<Product>(engine, *stream, data.w1, c.rows, low_rank);
    const auto second = std::make_shared<Product>(engine, *stream, data.w2, c.rows, low_rank);
    const auto dense =
        std::make_shared<Product>(engine, *stream, data.w, c.rows, c.copies(c.dense_parameters() * sizeof(T)));
    const auto middle = std::make_shared<lowrank::Matrix<T>>(c.rows, c.rank);
    const auto y = std::make_shared<lowrank::Matrix<T>>(c.rows, c.d_out);
    const auto turn = std::make_shared<std::size_t>(0);
    contenders.push_back({"onednn", [=, &x](double seconds) {
                              dnnl::memory in = Product::memory(engine, x);
                              dnnl::memory between = Product::memory(engine, *middle);
                              dnnl::memory out = Product::memory(engine, *y);
                              return time_calls(seconds, *turn, [&](std::size_t i) {
                                  first->run(*stream, i % first->copies(), in, between);
                                  second->run(*stream, i % second->copies(), between, out);
                                  stream->wait();
                              });
                          }});
    contenders.push_back({"onednn:dense", [=, &x](double seconds) {
                              dnnl::memory in = Product::memory(engine, x);
                              dnnl::memory out = Product::memory(engine, *y);
                              return time_calls(seconds, *turn, [&](std::size_t i) {
                                  dense->run(*stream, i % dense->copies(), in, out);
                                  stream->wait();
                              });
                          }});
}

}  // namespace bench

#endif
