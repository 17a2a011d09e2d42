// Compiled with -ffast-math, where comparisons with NaN mean nothing: non-finite weights must still be refused.
#include <lowrank/decompose.hpp>

#include "catch.hpp"

#include <bit>
#include <cstdint>

using namespace lowrank;

TEST_CASE("NaN and infinity are refused under -ffast-math", "[decompose]") {
    const cpu::Context cpu;
    for (const std::uint32_t bits : {0x7fc00000U, 0xffc00001U, 0x7f800001U, 0x7f800000U, 0xff800000U}) {
        Matrix<float> w(20, 30);
        for (std::int64_t i = 0; i < 20; ++i) w(i, i) = 1;
        CHECK(decompose(cpu, w, {.rank = fixed_rank(20)}).relative_error < 1e-6);
        w(19, 29) = std::bit_cast<float>(bits);
        CHECK_THROWS_AS(decompose(cpu, w, {.rank = fixed_rank(3)}), ValueError);
    }
    Matrix<bf16> half(20, 30);
    half(3, 4).bits = 0x7f80;
    CHECK_THROWS_AS(decompose(cpu, half, {.rank = fixed_rank(3)}), ValueError);
}
