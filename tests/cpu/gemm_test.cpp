// lowrank - gemm and gram: every level, type, transposition and edge against a wider reference.
// SPDX-License-Identifier: MIT
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/cpu/repeated_operand.hpp>

#include "catch.hpp"
#include "forward_reference.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

namespace {

using lowrank::bf16;
using lowrank::f16;
using lowrank::Matrix;
using lowrank::MatrixView;
using lowrank::cpu::Context;
using lowrank::cpu::ContextOptions;
using lowrank::cpu::Isa;
using lowrank::cpu::Operands;
using lowrank::cpu::Transpose;
using test::levels;

template <class T>
Matrix<T> random_matrix(std::int64_t rows, std::int64_t cols, unsigned seed) {
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    Matrix<T> matrix(rows, cols);
    for (std::size_t i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<T>(uniform(generator));
    return matrix;
}

template <class S>
long double at(MatrixView<const S> x, Transpose transpose, std::int64_t i, std::int64_t j) {
    return static_cast<long double>(static_cast<double>(transpose == Transpose::yes ? x(j, i) : x(i, j)));
}

// Each term of an element goes through at most K roundings of its sum, one by alpha and one for each block that is
// added, of which there are few enough: gamma_{K + 2} on |alpha| |A| |B| + |beta| |C| (Higham 2002, section 3.1). The
// reference's own error, in long double, is 2^-11 of that at most where the result is double.
template <class SA, class SB, class E>
void check(const Matrix<E>& c, E alpha, MatrixView<const SA> a, Transpose ta, MatrixView<const SB> b, Transpose tb,
           E beta, const Matrix<E>& before) {
    const std::int64_t depth = ta == Transpose::yes ? a.rows() : a.cols();
    const long double unit = std::numeric_limits<E>::epsilon() / 2.0L;
    const long double k = static_cast<long double>(depth + 2) * unit;
    const long double gamma = k / (1 - k) * (1 + 0x1p-10L);
    std::int64_t bad = 0;
    for (std::int64_t i = 0; i < c.rows(); ++i) {
        for (std::int64_t j = 0; j < c.cols(); ++j) {
            const bool kept = beta != E{0};
            long double sum = 0;
            long double size = 0;
            for (std::int64_t l = 0; l < depth; ++l) {
                const long double term = at(a, ta, i, l) * at(b, tb, l, j);
                sum += term;
                size += std::abs(term);
            }
            sum = alpha * sum + (kept ? static_cast<long double>(beta) * before(i, j) : 0.0L);
            size = std::abs(static_cast<long double>(alpha)) * size +
                   (kept ? std::abs(static_cast<long double>(beta) * before(i, j)) : 0.0L);
            if (!(std::abs(c(i, j) - sum) <= gamma * size)) ++bad;
        }
    }
    CHECK(bad == 0);
}

// Operands of exactly their size, so that a sanitizer sees any read past them.
template <class SA, class SB, class E>
void check_product(const Context& context, std::int64_t m, std::int64_t n, std::int64_t k, Transpose ta, Transpose tb,
                   E alpha, E beta) {
    const bool flip_a = ta == Transpose::yes;
    const bool flip_b = tb == Transpose::yes;
    const auto a = random_matrix<SA>(flip_a ? k : m, flip_a ? m : k, 1);
    const auto b = random_matrix<SB>(flip_b ? n : k, flip_b ? k : n, 2);
    auto c = random_matrix<E>(m, n, 3);
    if (beta == E{0}) std::fill_n(c.data(), c.size(), std::numeric_limits<E>::quiet_NaN());  // must not be read
    const auto before = c;
    gemm(context, alpha, a, ta, b, tb, beta, c.view());
    CAPTURE(isa_name(context.isa()), m, n, k, flip_a, flip_b, alpha, beta);
    check(c, alpha, a.view(), ta, b.view(), tb, beta, before);
}

template <class SA, class SB, class E>
void check_shapes() {
    const std::int64_t shapes[][3] = {{1, 1, 1},     {1, 17, 3},   {3, 1, 9},    {2, 5, 1},
                                      {7, 15, 8},    {14, 32, 16}, {15, 33, 2},  {13, 31, 17},
                                      {29, 65, 385}, {6, 16, 769}, {57, 49, 131}};
    for (Isa isa : levels()) {
        const Context context(ContextOptions{.threads = 2, .isa = isa});
        for (const auto& [m, n, k] : shapes) {
            for (Transpose ta : {Transpose::no, Transpose::yes}) {
                for (Transpose tb : {Transpose::no, Transpose::yes}) {
                    check_product<SA, SB, E>(context, m, n, k, ta, tb, E{1}, E{0});
                    check_product<SA, SB, E>(context, m, n, k, ta, tb, E(-0.5), E(1.25));
                }
            }
        }
    }
}

TEST_CASE("gemm is within its error bound on every level, type, transposition and odd shape", "[gemm]") {
    SECTION("float") {
        check_shapes<float, float, float>();
    }
    SECTION("double") {
        check_shapes<double, double, double>();
    }
    SECTION("bf16") {
        check_shapes<bf16, bf16, float>();
    }
    SECTION("f16") {
        check_shapes<f16, f16, float>();
    }
    SECTION("bf16 by float") {
        check_shapes<bf16, float, float>();
    }
    SECTION("float by f16") {
        check_shapes<float, f16, float>();
    }
    SECTION("float in, double out") {
        check_shapes<float, float, double>();
    }
}

// Products of integers, each lane x of a block of the inner dimension in units u = ||x|| / 32700: with errors of at
// most u / 2 in each element, |error| <= sum over blocks of (u_a |b|_1 + u_b |a|_1) / 2 + K u_a u_b / 4. And in float:
// the units and their inverses (three roundings each, and ||x|| whose sums take K / 4 + 8 at most), one of the integer
// sum, three by units and alpha, one for each block.
template <class SA, class SB>
std::int64_t beyond_fixed_bound(const Matrix<float>& c, float alpha, MatrixView<const SA> a, Transpose ta,
                                MatrixView<const SB> b, Transpose tb) {
    constexpr std::int64_t kBlock = 768;
    constexpr long double kUnit = 0x1p-24L;
    const std::int64_t depth = ta == Transpose::yes ? a.rows() : a.cols();
    std::int64_t bad = 0;
    for (std::int64_t i = 0; i < c.rows(); ++i) {
        for (std::int64_t j = 0; j < c.cols(); ++j) {
            long double exact = 0, bound = 0;
            for (std::int64_t first = 0; first < depth; first += kBlock) {
                const std::int64_t end = std::min(first + kBlock, depth);
                long double a_sum = 0, b_sum = 0, a_square = 0, b_square = 0, size = 0;
                for (std::int64_t l = first; l < end; ++l) {
                    const long double x = std::abs(at(a, ta, i, l));
                    const long double y = std::abs(at(b, tb, l, j));
                    exact += at(a, ta, i, l) * at(b, tb, l, j);
                    a_sum += x;
                    b_sum += y;
                    a_square += x * x;
                    b_square += y * y;
                    size += x * y;
                }
                const long double a_unit = std::sqrt(a_square) / 32700;
                const long double b_unit = std::sqrt(b_square) / 32700;
                const auto count = static_cast<long double>(end - first);
                bound += (a_unit * b_sum + b_unit * a_sum) / 2 + count * a_unit * b_unit / 4;
                bound += (count / 2 + 40) * kUnit * size;
            }
            bound = std::abs(static_cast<long double>(alpha)) * bound * (1 + 0x1p-8L) +
                    static_cast<long double>(std::numeric_limits<float>::min());  // subnormal results
            if (!(std::abs(c(i, j) - alpha * exact) <= bound)) ++bad;
        }
    }
    return bad;
}

template <class S>
void check_rounded(const Context& context, std::int64_t m, std::int64_t n, std::int64_t k, Transpose ta, Transpose tb) {
    const bool exact = std::is_same_v<S, bf16> && context.isa() >= Isa::avx512_bf16;
    const auto a = random_matrix<S>(ta == Transpose::yes ? k : m, ta == Transpose::yes ? m : k, 1);
    const auto b = random_matrix<S>(tb == Transpose::yes ? n : k, tb == Transpose::yes ? k : n, 2);
    Matrix<float> c(m, n), expected(m, n), symmetric(m, m), expected_symmetric(m, m);
    gemm(context, 0.5F, a, ta, b, tb, 0.0F, c.view(), Operands::rounded);
    gram(context, 0.5F, a, ta, 0.0F, symmetric.view(), Operands::rounded);
    CAPTURE(isa_name(context.isa()), m, n, k, ta == Transpose::yes, tb == Transpose::yes);
    if (lowrank::cpu::detail::has_fixed_tile(context.isa()) && !exact) {
        const Transpose other = ta == Transpose::yes ? Transpose::no : Transpose::yes;
        CHECK(beyond_fixed_bound<S, S>(c, 0.5F, a.view(), ta, b.view(), tb) == 0);
        CHECK(beyond_fixed_bound<S, S>(symmetric, 0.5F, a.view(), ta, a.view(), other) == 0);
        return;
    }
    gemm(context, 0.5F, a, ta, b, tb, 0.0F, expected.view());
    gram(context, 0.5F, a, ta, 0.0F, expected_symmetric.view());
    CHECK(std::equal(c.data(), c.data() + c.size(), expected.data()));
    CHECK(std::equal(symmetric.data(), symmetric.data() + symmetric.size(), expected_symmetric.data()));
}

TEST_CASE("Rounded operands are integers in units where these are faster, else untouched", "[gemm]") {
    const std::int64_t shapes[][3] = {{1, 1, 1},    {3, 1, 9},     {2, 5, 1},    {7, 15, 8},
                                      {14, 32, 16}, {15, 33, 2},   {13, 31, 17}, {29, 65, 385},
                                      {6, 16, 769}, {57, 49, 131}, {9, 20, 1601}};
    for (Isa isa : levels()) {
        const Context context(ContextOptions{.threads = 2, .isa = isa});
        for (const auto& [m, n, k] : shapes) {
            for (Transpose ta : {Transpose::no, Transpose::yes}) {
                for (Transpose tb : {Transpose::no, Transpose::yes}) {
                    check_rounded<float>(context, m, n, k, ta, tb);
                    check_rounded<f16>(context, m, n, k, ta, tb);
                    check_rounded<bf16>(context, m, n, k, ta, tb);
                }
            }
        }
    }
}

TEST_CASE("Integers in units hold lanes of any size and direction", "[gemm]") {
    const Isa isa = GENERATE(Isa::avx2, Isa::avx512_vnni);
    if (lowrank::cpu::detect_isa() < isa) return;
    CAPTURE(isa_name(isa));
    const Context context(ContextOptions{.threads = 2, .isa = isa});
    constexpr std::int64_t kDepth = 768;
    const auto product = [&](const Matrix<float>& a, const Matrix<float>& b) {
        Matrix<float> c(a.rows(), b.cols());
        gemm(context, 1.0F, a, Transpose::no, b, Transpose::no, 0.0F, c.view(), Operands::rounded);
        return c;
    };
    SECTION("all entries alike, or one that outgrows the rest: the largest sums of integers") {
        for (const float first : {1.0F, -1.0F, 1e3F, -1e6F}) {
            Matrix<float> a(7, kDepth), b(kDepth, 19);
            std::fill_n(a.data(), a.size(), -1.0F);
            std::fill_n(b.data(), b.size(), 1.0F);
            for (std::int64_t i = 0; i < a.rows(); ++i) a(i, 0) = first;
            for (std::int64_t j = 0; j < b.cols(); ++j) b(0, j) = first;
            CAPTURE(first);
            CHECK(beyond_fixed_bound<float, float>(product(a, b), 1.0F, a.view(), Transpose::no, b.view(),
                                                   Transpose::no) == 0);
        }
    }
    SECTION("lanes of every scale, beside each other") {
        auto a = random_matrix<float>(12, kDepth, 1);
        auto b = random_matrix<float>(kDepth, 21, 2);
        const float scales[] = {1e-30F, 1e-20F, 1e-15F, 1.0F, 1e15F, 1e18F, 1e30F};
        for (std::int64_t i = 0; i < 7; ++i) {
            for (std::int64_t l = 0; l < kDepth; ++l) a(i, l) *= scales[i];
        }
        for (std::int64_t j = 0; j < 4; ++j) {
            for (std::int64_t l = 0; l < kDepth; ++l) b(l, j) *= j == 3 ? 0.0F : scales[j + 1];
        }
        CHECK(beyond_fixed_bound<float, float>(product(a, b), 1.0F, a.view(), Transpose::no, b.view(), Transpose::no) ==
              0);
    }
    SECTION("what is not finite stays in its row") {
        for (const float strange : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
            auto a = random_matrix<float>(8, 77, 1);
            a(3, 76) = strange;
            const auto c = product(a, random_matrix<float>(77, 17, 2));
            for (std::int64_t i = 0; i < c.rows(); ++i) {
                for (std::int64_t j = 0; j < c.cols(); ++j) CHECK(std::isfinite(c(i, j)) == (i != 3));
            }
        }
    }
}

TEST_CASE("gemm crosses its block sizes", "[gemm]") {
    for (Isa isa : levels()) {
        const Context context(ContextOptions{.threads = 2, .isa = isa});
        check_product<float, float, float>(context, 5, 4100, 20, Transpose::no, Transpose::no, 1.0F, 0.0F);
        check_product<bf16, bf16, float>(context, 3, 4200, 801, Transpose::no, Transpose::yes, 1.0F, 0.5F);
        check_product<float, float, float>(context, 130, 70, 1200, Transpose::yes, Transpose::no, 1.0F, 0.0F);
    }
}

TEST_CASE("gemm with an empty inner dimension or alpha 0 scales C alone", "[gemm]") {
    const Context context;
    auto c = random_matrix<float>(3, 4, 1);
    const auto before = c;
    gemm(context, 1.0F, Matrix<float>(3, 0), Transpose::no, Matrix<float>(0, 4), Transpose::no, 2.0F, c.view());
    CHECK(c(2, 3) == 2.0F * before(2, 3));
    Matrix<float> nan(3, 4);
    nan(0, 0) = std::numeric_limits<float>::quiet_NaN();
    gemm(context, 1.0F, Matrix<float>(3, 0), Transpose::no, Matrix<float>(0, 4), Transpose::no, 0.0F, nan.view());
    CHECK(nan(0, 0) == 0.0F);
    Matrix<float> none(0, 4);
    gemm(context, 1.0F, Matrix<float>(0, 5), Transpose::no, Matrix<float>(5, 4), Transpose::no, 0.0F, none.view());
}

TEST_CASE("gemm writes nothing between the rows of a strided result", "[gemm]") {
    for (Isa isa : levels()) {
        const Context context(ContextOptions{.threads = 1, .isa = isa});
        const auto a = random_matrix<float>(31, 50, 1);
        const auto b = random_matrix<float>(44, 40, 2);
        Matrix<float> wide(31, 64);
        std::fill_n(wide.data(), wide.size(), 7.0F);
        const MatrixView<const float> a_part = a.view().block(0, 3, 31, 44);
        const MatrixView<const float> b_part = b.view().block(0, 2, 44, 37);
        gemm(context, 1.0F, a_part, Transpose::no, b_part, Transpose::no, 0.0F, wide.view().block(0, 5, 31, 37));
        Matrix<float> c(31, 37);
        for (std::int64_t i = 0; i < 31; ++i) {
            for (std::int64_t j = 0; j < 64; ++j) {
                if (j >= 5 && j < 42) {
                    c(i, j - 5) = wide(i, j);
                } else {
                    CHECK(wide(i, j) == 7.0F);
                }
            }
        }
        check(c, 1.0F, a_part, Transpose::no, b_part, Transpose::no, 0.0F, c);
    }
}

TEST_CASE("gemm keeps NaN and infinity where they belong", "[gemm]") {
    for (Isa isa : levels()) {
        const Context context(ContextOptions{.threads = 1, .isa = isa});
        auto a = random_matrix<bf16>(17, 21, 1);  // odd: the last pair of a dot product is half padding
        auto b = random_matrix<bf16>(21, 19, 2);
        a(3, 20) = bf16{std::numeric_limits<float>::infinity()};
        b(20, 7) = bf16{std::numeric_limits<float>::quiet_NaN()};
        Matrix<float> c(17, 19);
        gemm(context, 1.0F, a, Transpose::no, b, Transpose::no, 0.0F, c.view());
        for (std::int64_t i = 0; i < 17; ++i) {
            for (std::int64_t j = 0; j < 19; ++j) {
                CHECK(std::isnan(c(i, j)) == (j == 7));
                if (j != 7) CHECK(std::isinf(c(i, j)) == (i == 3));
            }
        }
    }
}

template <class S, class E>
void check_gram(const Context& context, std::int64_t rows, std::int64_t cols, Transpose transpose) {
    const bool flipped = transpose == Transpose::yes;
    const auto a = random_matrix<S>(rows, cols, 5);
    const std::int64_t order = flipped ? cols : rows;
    auto c = random_matrix<E>(order, order, 6);
    for (std::int64_t i = 0; i < order; ++i) {
        for (std::int64_t j = 0; j < i; ++j) c(i, j) = c(j, i);
    }
    const auto before = c;
    gram(context, E(2), a, transpose, E(-0.75), c.view());
    CAPTURE(isa_name(context.isa()), rows, cols, flipped);
    check(c, E(2), a.view(), transpose, a.view(), flipped ? Transpose::no : Transpose::yes, E(-0.75), before);
    bool symmetric = true;
    for (std::int64_t i = 0; i < order; ++i) {
        for (std::int64_t j = 0; j < i; ++j) symmetric = symmetric && c(i, j) == c(j, i);
    }
    CHECK(symmetric);
}

TEST_CASE("gram is the symmetric product of either side", "[gemm]") {
    for (Isa isa : levels()) {
        const Context context(ContextOptions{.threads = 2, .isa = isa});
        for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 3}, {40, 97}, {401, 131}}) {
            for (Transpose transpose : {Transpose::yes, Transpose::no}) {
                check_gram<float, float>(context, rows, cols, transpose);
                check_gram<double, double>(context, rows, cols, transpose);
                check_gram<float, double>(context, rows, cols, transpose);
                check_gram<bf16, float>(context, rows, cols, transpose);
            }
        }
    }
}

template <class S, class E>
void check_equal_bits(Isa isa) {
    const auto a = random_matrix<S>(150, 900, 1);
    const auto b = random_matrix<S>(900, 170, 2);
    const auto run = [&](const Context& context) {
        std::vector<Matrix<E>> results;
        results.emplace_back(150, 170);
        gemm(context, E(1), a, Transpose::no, b, Transpose::no, E(0), results.back().view());
        for (const Operands operands : {Operands::exact, Operands::rounded}) {
            results.emplace_back(170, 170);
            gram(context, E(1), b, Transpose::yes, E(0), results.back().view(), operands);
        }
        return results;
    };
    const auto one = run(Context(ContextOptions{.threads = 1, .isa = isa}));
    const lowrank::cpu::ParallelFor serially = [](std::int64_t count, lowrank::cpu::Task task) {
        for (std::int64_t i = count - 1; i >= 0; --i) task(i);
    };
    const lowrank::cpu::ParallelFor threads = [](std::int64_t count, lowrank::cpu::Task task) {
        std::vector<std::thread> pool;
        for (std::int64_t i = 0; i < count; ++i) pool.emplace_back([task, i] { task(i); });
        for (std::thread& thread : pool) thread.join();
    };
    for (const auto& options :
         {ContextOptions{.threads = 2, .isa = isa}, ContextOptions{.threads = 3, .isa = isa},
          ContextOptions{.threads = 5, .isa = isa}, ContextOptions{.threads = 4, .parallel_for = serially, .isa = isa},
          ContextOptions{.threads = 3, .parallel_for = threads, .isa = isa}}) {
        const auto many = run(Context(options));
        for (std::size_t i = 0; i < one.size(); ++i) {
            CHECK(std::memcmp(one[i].data(), many[i].data(), one[i].size() * sizeof(E)) == 0);
        }
    }
}

TEST_CASE("products are equal in bits for any number of threads", "[gemm]") {
    for (Isa isa : levels()) {
        CAPTURE(isa_name(isa));
        check_equal_bits<float, float>(isa);
        check_equal_bits<bf16, float>(isa);
        check_equal_bits<float, double>(isa);
    }
}

// So gemm's bounds hold for it.
template <class E>
void check_repeated() {
    const std::vector<std::array<std::int64_t, 3>> shapes = {{1, 1, 1}, {7, 19, 5}, {130, 33, 384}, {131, 275, 1601}};
    for (Isa isa : levels()) {
        const Context packs(ContextOptions{.threads = 2, .isa = isa});
        const Context multiplies(ContextOptions{.threads = 3, .isa = isa});
        for (Operands operands : {Operands::exact, Operands::rounded}) {
            for (const auto& [m, n, k] : shapes) {
                const auto wider = random_matrix<E>(m, k + 3, 1);
                const auto a = wider.view().block(0, 2, m, k);
                const lowrank::cpu::detail::RepeatedOperand<E> repeated(packs, a, operands);
                for (unsigned seed : {2U, 3U}) {
                    const auto b = random_matrix<E>(k, n, seed);
                    auto expected = random_matrix<E>(m, n, 4);
                    auto c = random_matrix<E>(m, n, 4);
                    gemm(packs, E(-0.5), a, Transpose::no, b, Transpose::no, E(1.25), expected.view(), operands);
                    repeated.multiply(multiplies, E(-0.5), b.view(), E(1.25), c.view());
                    CAPTURE(lowrank::cpu::isa_name(isa), m, n, k);
                    CHECK(std::memcmp(c.data(), expected.data(), c.size() * sizeof(E)) == 0);
                }
            }
        }
    }
}

TEST_CASE("a repeated operand gives the bits of gemm", "[gemm]") {
    check_repeated<float>();
    check_repeated<double>();
}

TEST_CASE("products end where threads lose their cores in the middle", "[gemm]") {
    // Blocks of columns and of the inner dimension, few chunks in each: one that is late is overtaken by the next
    // block.
    const Matrix<float> a(14, 385);
    const Matrix<float> b(385, 8320);
    Matrix<float> c(a.rows(), b.cols());
    const Context context({.threads = 8});
    for (int i = 0; i < 20; ++i) gemm(context, 1.0F, a, Transpose::no, b, Transpose::no, 0.0F, c.view());
    CHECK(c(13, 8319) == 0);
}

TEST_CASE("products refuse sizes that do not fit together", "[gemm]") {
    const Context context;
    Matrix<float> c(3, 4);
    CHECK_THROWS_AS(
        gemm(context, 1.0F, Matrix<float>(3, 5), Transpose::no, Matrix<float>(6, 4), Transpose::no, 0.0F, c.view()),
        lowrank::ShapeError);
    CHECK_THROWS_AS(
        gemm(context, 1.0F, Matrix<float>(3, 5), Transpose::yes, Matrix<float>(5, 4), Transpose::no, 0.0F, c.view()),
        lowrank::ShapeError);
    CHECK_THROWS_AS(gram(context, 1.0F, Matrix<float>(3, 4), Transpose::no, 0.0F, c.view()), lowrank::ShapeError);
}

}  // namespace
