// bf16 and f16 against definitions of their own: nearest value, ties to even, found by search over all 65536 patterns.
#include <lowrank/scalar.hpp>

#include "catch.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

using lowrank::bf16;
using lowrank::f16;

namespace {

/// What the bits mean, by the formula of the format: (-1)^s 2^(e - bias) (1 + m / 2^p).
double decode(std::uint16_t bits, int exponent_bits, int mantissa_bits) {
    const int sign = bits >> 15;
    const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    double value = 0;
    if (exponent == (1 << exponent_bits) - 1) {
        value = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    } else if (exponent == 0) {
        value = std::ldexp(mantissa, 1 - bias - mantissa_bits);
    } else {
        value = std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
    }
    return sign != 0 ? -value : value;
}

/// Nearest by bisection over the non-negative patterns, which ascend with their values; ties to the even pattern, and
/// what is half a step beyond the largest number becomes infinite.
std::uint16_t nearest(double value, int exponent_bits, int mantissa_bits) {
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const double magnitude = std::abs(value);
    const auto infinity = static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
    std::uint16_t low = 0;
    std::uint16_t high = infinity;
    while (high - low > 1) {
        const auto middle = static_cast<std::uint16_t>((low + high) / 2);
        (decode(middle, exponent_bits, mantissa_bits) <= magnitude ? low : high) = middle;
    }
    const double below = decode(low, exponent_bits, mantissa_bits);
    const double above = high == infinity
                             ? 2 * decode(static_cast<std::uint16_t>(infinity - 1), exponent_bits, mantissa_bits) -
                                   decode(static_cast<std::uint16_t>(infinity - 2), exponent_bits, mantissa_bits)
                             : decode(high, exponent_bits, mantissa_bits);
    const double middle = below + (above - below) / 2;
    const bool up = magnitude > middle || (magnitude == middle && (low & 1) != 0);
    return static_cast<std::uint16_t>(sign | (up ? high : low));
}

template <class Half>
void check_all(int exponent_bits, int mantissa_bits) {
    for (int pattern = 0; pattern < 65536; ++pattern) {
        Half half;
        half.bits = static_cast<std::uint16_t>(pattern);
        const double value = decode(half.bits, exponent_bits, mantissa_bits);
        if (std::isnan(value)) {
            REQUIRE(std::isnan(static_cast<float>(half)));
            REQUIRE(std::isnan(static_cast<float>(Half(static_cast<float>(half)))));
            REQUIRE_FALSE(lowrank::is_finite(half));
            continue;
        }
        REQUIRE(static_cast<double>(half) == value);
        REQUIRE(Half(static_cast<float>(half)).bits == half.bits);
        REQUIRE(lowrank::is_finite(half) == std::isfinite(value));
        if (!std::isfinite(value)) continue;
        // At, just below and just above the middle between this value and the next one away from zero.
        Half next;
        next.bits = static_cast<std::uint16_t>(pattern + 1);
        const double step = decode(next.bits, exponent_bits, mantissa_bits);
        if (!std::isfinite(step)) continue;
        const double middle = value + (step - value) / 2;
        for (const double x : {middle, std::nextafter(middle, 0.0), std::nextafter(middle, step)}) {
            REQUIRE(Half(x).bits == nearest(x, exponent_bits, mantissa_bits));
            const auto y = static_cast<float>(x);
            REQUIRE(Half(y).bits == nearest(static_cast<double>(y), exponent_bits, mantissa_bits));
        }
    }
    std::mt19937_64 random(7);
    for (int i = 0; i < 200000; ++i) {
        const auto x = std::bit_cast<double>(random());
        const auto y = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
        if (std::isfinite(x)) REQUIRE(Half(x).bits == nearest(x, exponent_bits, mantissa_bits));
        if (std::isfinite(y)) REQUIRE(Half(y).bits == nearest(static_cast<double>(y), exponent_bits, mantissa_bits));
    }
}

}  // namespace

TEST_CASE("bf16 widens exactly and narrows to nearest even", "[scalar]") {
    check_all<bf16>(8, 7);
}

TEST_CASE("f16 widens exactly and narrows to nearest even", "[scalar]") {
    check_all<f16>(5, 10);
}

TEST_CASE("Narrowing a double rounds once", "[scalar]") {
    // 1 + 2^-8 + 2^-40 is above the middle of 1 and the next bf16; a detour over float would land on the middle.
    CHECK(static_cast<float>(bf16(1.0 + 0x1p-8 + 0x1p-40)) == 1.0F + 0x1p-7F);
    CHECK(static_cast<float>(f16(1.0 + 0x1p-11 + 0x1p-40)) == 1.0F + 0x1p-10F);
}

TEST_CASE("Infinities and signs of zero are kept", "[scalar]") {
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(bf16(-infinity).bits == 0xff80);
    CHECK(f16(infinity).bits == 0x7c00);
    CHECK(f16(65520.0F).bits == 0x7c00);
    CHECK(f16(65519.996F).bits == 0x7bff);
    CHECK(bf16(-0.0F).bits == 0x8000);
    CHECK(f16(-0.0).bits == 0x8000);
    CHECK_FALSE(lowrank::is_finite(infinity));
    CHECK_FALSE(lowrank::is_finite(std::numeric_limits<double>::quiet_NaN()));
    CHECK(lowrank::is_finite(std::numeric_limits<double>::denorm_min()));
}
