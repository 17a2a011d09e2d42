#include <lowrank/linear.hpp>
#include <lowrank/low_rank_linear.hpp>

#include "catch.hpp"
#include "forward_reference.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

using namespace lowrank;
using lowrank::cpu::Context;
using lowrank::cpu::ContextOptions;
using lowrank::cpu::Intermediate;
using lowrank::cpu::Isa;
using test::ForwardReference;
using test::gaussian;
using test::levels;
using test::Rounded;

namespace {

/// The first rows of a matrix, in memory of exactly their size, so that a sanitizer sees any read past them.
template <class T>
Matrix<T> first_rows(const Matrix<T>& m, std::int64_t rows) {
    Matrix<T> part(rows, m.cols());
    std::copy_n(m.data(), part.size(), part.data());
    return part;
}

template <class T, class Out, class Layer>
void check_rows(const Context& context, const Layer& layer, const Matrix<T>& x, const ForwardReference& reference,
                Rounded rounded) {
    Matrix<Out> y(x.rows(), layer.d_out());
    std::fill_n(y.data(), y.size(), static_cast<Out>(std::numeric_limits<float>::quiet_NaN()));
    std::vector<std::byte> workspace(layer.workspace_bytes(context, x.rows()));
    layer.forward(context, x, y.view(), std::span(workspace));
    CAPTURE(isa_name(context.isa()), x.rows(), layer.d_in(), layer.d_out());
    CHECK(reference.outside(y.view(), rounded) == 0);
}

}  // namespace

TEMPLATE_TEST_CASE("Forward is within its error bound on every level, for any rows and sizes", "[forward]", float,
                   double, bf16, f16) {
    using T = TestType;
    using C = compute_t<T>;
    const std::array<std::int64_t, 25> row_counts{1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,  12, 13,
                                                  14, 15, 16, 17, 20, 24, 28, 31, 33, 64, 100, 257};
    // The last crosses the blocks of the inner dimension in both products, for fewer rows to keep its reference cheap.
    const std::int64_t shapes[][3] = {{1, 1, 1}, {3, 1, 31}, {31, 3, 113}, {113, 31, 1}, {64, 113, 48}, {801, 401, 33}};
    for (const auto& [d_in, rank, d_out] : shapes) {
        const Matrix<T> w1 = gaussian<T>(d_in, rank, 1);
        const Matrix<T> w2 = gaussian<T>(rank, d_out, 2);
        std::vector<C> bias(static_cast<std::size_t>(d_out));
        for (std::size_t j = 0; j < bias.size(); ++j) bias[j] = static_cast<C>(j % 7) - 3;
        const std::int64_t most = d_in > 500 ? 33 : row_counts.back();
        const Matrix<T> all = gaussian<T>(most, d_in, 3);
        const LowRankLinear<T> layer(w1, w2, WeightLayout::in_out, bias);
        const Linear<T> dense(w1, WeightLayout::in_out);
        const ForwardReference reference(all, w1, &w2, bias);
        const ForwardReference dense_reference(all, w1, static_cast<const Matrix<T>*>(nullptr), std::vector<C>());
        for (const Isa isa : levels()) {
            const Context context({.threads = 2, .isa = isa});
            const Context full({.threads = 1, .isa = isa, .intermediate = Intermediate::full});
            for (const std::int64_t rows : row_counts) {
                if (rows > most) break;
                // What cpu/context.hpp and low_rank_linear.hpp say about the intermediate.
                const bool rounds = std::is_same_v<T, bf16> && isa == Isa::avx512_bf16 && rows > 4;
                const Rounded rounded = rounds ? Rounded::to_bf16 : Rounded::no;
                const Matrix<T> x = first_rows(all, rows);
                check_rows<T, T>(context, layer, x, reference, rounded);
                check_rows<T, C>(context, layer, x, reference, rounded);
                check_rows<T, C>(full, layer, x, reference, Rounded::no);
                check_rows<T, C>(context, dense, x, dense_reference, Rounded::no);
            }
        }
    }
}

TEMPLATE_TEST_CASE("Forward's results are equal in bits for any number of threads", "[forward]", float, bf16, f16) {
    using T = TestType;
    const LowRankLinear<T> layer(gaussian<T>(900, 300, 1), gaussian<T>(300, 1100, 2), WeightLayout::in_out);
    const cpu::ParallelFor backwards = [](std::int64_t count, cpu::Task task) {
        for (std::int64_t i = count - 1; i >= 0; --i) task(i);
    };
    const cpu::ParallelFor pool = [](std::int64_t count, cpu::Task task) {
        std::vector<std::thread> threads;
        for (std::int64_t i = 0; i < count; ++i) threads.emplace_back([task, i] { task(i); });
        for (std::thread& thread : threads) thread.join();
    };
    for (const Isa isa : levels()) {
        for (const std::int64_t rows : {1, 6, 40, 500}) {
            const Matrix<T> x = gaussian<T>(rows, 900, 3);
            const Matrix<T> one = layer.forward(Context({.threads = 1, .isa = isa}), x);
            for (const ContextOptions& options :
                 {ContextOptions{.threads = 2, .isa = isa}, ContextOptions{.threads = 5, .isa = isa},
                  ContextOptions{.threads = 4, .parallel_for = backwards, .isa = isa},
                  ContextOptions{.threads = 3, .parallel_for = pool, .isa = isa}}) {
                const Matrix<T> many = layer.forward(Context(options), x);
                CAPTURE(isa_name(isa), rows, options.threads);
                CHECK(std::memcmp(one.data(), many.data(), one.size() * sizeof(T)) == 0);
            }
        }
    }
}

TEMPLATE_TEST_CASE("NaN and infinity come out where the sums have them, and nowhere else", "[forward]", float, bf16,
                   f16) {
    using T = TestType;
    // Odd sizes: the padding of panels and pairs lies beside the entries that are not finite.
    Matrix<T> w1 = gaussian<T>(21, 19, 1);
    const Matrix<T> w2 = gaussian<T>(19, 35, 2);
    const T infinity{std::numeric_limits<float>::infinity()};
    const T nan{std::numeric_limits<float>::quiet_NaN()};
    const LowRankLinear<T> finite(w1, w2, WeightLayout::in_out);
    w1(20, 18) = nan;
    const LowRankLinear<T> with_nan(w1, w2, WeightLayout::in_out);
    const Linear<T> dense(w1, WeightLayout::in_out);
    for (const Isa isa : levels()) {
        const Context context({.threads = 1, .isa = isa});
        for (const std::int64_t rows : {1, 5, 17, 130}) {
            Matrix<T> x = gaussian<T>(rows, 21, 3);
            x(rows / 2, 20) = infinity;
            const auto y = finite.forward(context, x);
            const auto z = with_nan.forward(context, x);
            const auto d = dense.forward(context, x);
            bool right = true;
            for (std::int64_t i = 0; i < rows; ++i) {
                for (std::int64_t j = 0; j < 35; ++j) {
                    // Every intermediate of the row is infinite, of either sign, so that their sum may be NaN.
                    right = right && is_finite(y(i, j)) == (i != rows / 2);
                    right = right && std::isnan(static_cast<float>(z(i, j)));
                }
                for (std::int64_t j = 0; j < 19; ++j) {
                    const auto value = static_cast<float>(d(i, j));
                    right = right && std::isnan(value) == (j == 18);
                    if (j != 18) right = right && std::isinf(value) == (i == rows / 2);
                }
            }
            CAPTURE(isa_name(isa), rows);
            CHECK(right);
        }
    }
}

TEMPLATE_TEST_CASE("Padding does not turn an infinite result into NaN", "[forward]", float, bf16, f16) {
    using T = TestType;
    const T one{1.0F};
    Matrix<T> w1(21, 19);
    Matrix<T> w2(19, 35);
    std::fill_n(w1.data(), w1.size(), one);
    std::fill_n(w2.data(), w2.size(), one);
    const LowRankLinear<T> layer(w1, w2, WeightLayout::in_out);
    for (const Isa isa : levels()) {
        const Context context({.threads = 1, .isa = isa});
        for (const std::int64_t rows : {1, 2, 5, 17, 130}) {
            Matrix<T> x(rows, 21);
            std::fill_n(x.data(), x.size(), one);
            x(rows - 1, 20) = T{std::numeric_limits<float>::infinity()};
            const Matrix<T> y = layer.forward(context, x);
            bool right = true;
            for (std::int64_t i = 0; i < rows; ++i) {
                for (std::int64_t j = 0; j < 35; ++j) {
                    const auto value = static_cast<float>(y(i, j));
                    right = right && (i + 1 < rows ? std::abs(value - 399) <= 1 : value > 0 && std::isinf(value));
                }
            }
            CAPTURE(isa_name(isa), rows);
            CHECK(right);
        }
    }
}

TEMPLATE_TEST_CASE("Results are equal in bits wherever the rows of X and Y lie", "[forward]", float, bf16, f16) {
    using T = TestType;
    // More of the inner dimension than a block, rows of several kinds of tiles, and more than a block of them.
    constexpr std::int64_t kIn = 1100;
    constexpr std::int64_t kOut = 96;
    const Matrix<T> w1 = gaussian<T>(kIn, 40, 1);
    const LowRankLinear<T> layer(w1, gaussian<T>(40, kOut, 2), WeightLayout::in_out);
    const Linear<T> dense(w1, WeightLayout::in_out);
    for (const Isa isa : levels()) {
        const Context context({.threads = 2, .isa = isa});
        for (const std::int64_t rows : {1, 3, 14, 30, 200}) {
            const Matrix<T> x = gaussian<T>(rows, kIn, 3);
            const Matrix<T> y = layer.forward(context, x);
            const Matrix<T> z = dense.forward(context, x);
            // One that is odd, and one in which rows fall into the same places of a cache.
            for (const std::int64_t stride : {1103, 4096}) {
                Matrix<T> wide(rows, stride);
                for (std::int64_t i = 0; i < rows; ++i) std::copy_n(x.row(i), kIn, wide.row(i));
                Matrix<T> to(rows, stride);
                Workspace workspace;
                layer.forward(context, wide.view().block(0, 0, rows, kIn), to.view().block(0, 0, rows, kOut),
                              workspace);
                bool equal = true;
                for (std::int64_t i = 0; i < rows; ++i) {
                    equal = equal && std::memcmp(to.row(i), y.row(i), kOut * sizeof(T)) == 0;
                }
                dense.forward(context, wide.view().block(0, 0, rows, kIn), to.view().block(0, 0, rows, 40), workspace);
                for (std::int64_t i = 0; i < rows; ++i) {
                    equal = equal && std::memcmp(to.row(i), z.row(i), 40 * sizeof(T)) == 0;
                }
                CAPTURE(isa_name(isa), rows, stride);
                CHECK(equal);
            }
        }
    }
}

TEST_CASE("Stored weights come back bit for bit, whatever their size and layout", "[forward]") {
    for (const auto& [rows, cols] : {std::array<std::int64_t, 2>{1, 1}, {7, 40}, {33, 16}, {2, 17}}) {
        Matrix<bf16> w(rows, cols);
        for (std::size_t i = 0; i < w.size(); ++i) w.data()[i].bits = static_cast<std::uint16_t>(0x7fc1U + 977U * i);
        const Matrix<bf16> in_out = cpu::PackedWeight<bf16>(w, WeightLayout::in_out).unpack();
        const Matrix<bf16> out_in = cpu::PackedWeight<bf16>(w, WeightLayout::out_in).unpack();
        CHECK(std::memcmp(in_out.data(), w.data(), w.size() * sizeof(bf16)) == 0);
        REQUIRE(out_in.rows() == cols);
        bool equal = true;
        for (std::int64_t i = 0; i < rows; ++i) {
            for (std::int64_t j = 0; j < cols; ++j) equal = equal && out_in(j, i).bits == w(i, j).bits;
        }
        CHECK(equal);
    }
}

TEST_CASE("A workspace for many rows serves fewer, and layers without an inner dimension give the bias", "[forward]") {
    const LowRankLinear<bf16> layer(gaussian<bf16>(500, 70, 1), gaussian<bf16>(70, 90, 2), WeightLayout::in_out);
    for (const Isa isa : levels()) {
        const Context context({.threads = 3, .isa = isa});
        std::size_t before = 0;
        for (std::int64_t rows = 0; rows < 600; ++rows) {
            const std::size_t bytes = layer.workspace_bytes(context, rows);
            if (bytes < before) FAIL("fewer bytes for more rows, " << rows);
            before = bytes;
        }
        const LowRankLinear<float> empty(Matrix<float>(5, 0), Matrix<float>(0, 3), WeightLayout::in_out,
                                         std::vector<float>{1, 2, 3});
        const Linear<float> none(Matrix<float>(0, 3), WeightLayout::in_out, std::vector<float>{1, 2, 3});
        CHECK(empty.forward(context, Matrix<float>(20, 5))(19, 2) == 3);
        CHECK(none.forward(context, Matrix<float>(20, 0))(19, 2) == 3);
    }
}

#if defined(__linux__)

namespace {

/// A matrix that ends where memory that may not be touched begins, and begins after such memory if it fills its pages.
template <class T>
class GuardedMatrix {
public:
    GuardedMatrix(std::int64_t rows, std::int64_t cols) : rows_(rows), cols_(cols) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t bytes = static_cast<std::size_t>(rows * cols) * sizeof(T);
        inner_ = (bytes + page - 1) / page * page;
        size_ = inner_ + 2 * page;
        void* memory = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(memory != MAP_FAILED);
        base_ = static_cast<std::byte*>(memory);
        REQUIRE(mprotect(base_ + page, inner_, PROT_READ | PROT_WRITE) == 0);
        data_ = reinterpret_cast<T*>(base_ + page + inner_ - bytes);
    }
    ~GuardedMatrix() { munmap(base_, size_); }
    GuardedMatrix(const GuardedMatrix&) = delete;
    GuardedMatrix& operator=(const GuardedMatrix&) = delete;

    MatrixView<T> view() const { return {data_, rows_, cols_}; }
    void fill(const Matrix<T>& from) { std::copy_n(from.data(), from.size(), data_); }

private:
    std::int64_t rows_, cols_;
    std::byte* base_ = nullptr;
    std::size_t inner_ = 0, size_ = 0;
    T* data_ = nullptr;
};

}  // namespace

TEMPLATE_TEST_CASE("Nothing beyond the caller's matrices is touched", "[forward]", float, bf16, f16) {
    using T = TestType;
    for (const auto& [d_in, rank, d_out] : {std::array<std::int64_t, 3>{37, 19, 41}, {64, 16, 32}, {5, 1, 3}}) {
        GuardedMatrix<T> w1(d_in, rank);
        GuardedMatrix<T> w2(d_out, rank);
        w1.fill(gaussian<T>(d_in, rank, 1));
        w2.fill(gaussian<T>(d_out, rank, 2));
        const cpu::PackedWeight<T> transposed(w2.view(), WeightLayout::out_in);
        const LowRankLinear<T> layer(w1.view(), transposed.unpack().view(), WeightLayout::in_out);
        for (const Isa isa : levels()) {
            const Context context({.threads = 1, .isa = isa});
            for (const std::int64_t rows : {1, 2, 3, 7, 16, 31}) {
                GuardedMatrix<T> x(rows, d_in);
                GuardedMatrix<T> y(rows, d_out);
                x.fill(gaussian<T>(rows, d_in, 3));
                Workspace workspace;
                layer.forward(context, x.view(), y.view(), workspace);
                CHECK(is_finite(y.view()(rows - 1, d_out - 1)));
            }
        }
    }
}

#endif
