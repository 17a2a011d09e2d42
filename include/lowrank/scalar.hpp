// lowrank - storage types of 16 bits, their conversions, and which type each storage type is computed in.
// SPDX-License-Identifier: MIT
//
// bf16 (bfloat16: 8 exponent bits, 7 mantissa bits) and f16 (IEEE 754 binary16) only store: arithmetic widens
// to float first. Widening is exact. Narrowing rounds to nearest, ties to even, from float and from double alike
// (a double is not rounded twice); NaN stays NaN, subnormals and overflow to infinity follow IEEE 754.
// Both types are trivially copyable and 2 bytes wide, so a buffer of a checkpoint can be viewed as an array of them.
//
//     lowrank::bf16 x{1.5F};
//     float y = static_cast<float>(x);
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace lowrank {

namespace detail {

/// float nearest to odd: truncates toward zero and sets the last bit if anything was lost. A second rounding, to a
/// type at least two bits narrower, then gives what one rounding of the double would have (Boldo, Melquiond 2008).
constexpr float round_to_odd(double value) {
    const float nearest = static_cast<float>(value);
    const auto wide = std::bit_cast<std::uint64_t>(value);
    auto bits = std::bit_cast<std::uint32_t>(nearest);
    const bool is_nan = (wide & 0x7fffffffffffffffU) > 0x7ff0000000000000U;
    const bool is_infinite = (wide & 0x7fffffffffffffffU) == 0x7ff0000000000000U;
    if (is_nan || is_infinite || std::bit_cast<std::uint64_t>(static_cast<double>(nearest)) == wide) return nearest;
    const auto magnitude = std::bit_cast<std::uint64_t>(static_cast<double>(nearest)) & 0x7fffffffffffffffU;
    if (magnitude > (wide & 0x7fffffffffffffffU)) --bits;  // was rounded away from zero: one step back
    return std::bit_cast<float>(bits | 1U);
}

constexpr std::uint16_t float_to_bf16_bits(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);  // quiet the NaN
    return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

constexpr float bf16_bits_to_float(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

constexpr std::uint16_t float_to_f16_bits(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
    if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // 65520 and above
    if (magnitude < 0x33000001U) return static_cast<std::uint16_t>(sign);             // 2^-25 and below
    const std::uint32_t exponent = magnitude >> 23;
    std::uint32_t significand = magnitude & 0x7fffffU;
    std::uint32_t shift = 13;
    std::uint32_t result = 0;
    if (exponent >= 113) {  // normal in binary16
        result = ((exponent - 112) << 10);
    } else {  // subnormal: the implicit bit becomes explicit and moves down
        significand |= 0x800000U;
        shift = 126 - exponent;
    }
    const std::uint32_t half = 1U << (shift - 1);
    const std::uint32_t rest = significand & ((1U << shift) - 1);
    result += significand >> shift;
    if (rest > half || (rest == half && (result & 1U) != 0)) ++result;  // a carry into the exponent is right
    return static_cast<std::uint16_t>(sign | result);
}

constexpr float f16_bits_to_float(std::uint16_t bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1fU;
    const std::uint32_t significand = bits & 0x3ffU;
    if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000U | (significand << 13));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (significand << 13));
    if (significand == 0) return std::bit_cast<float>(sign);
    const auto leading = static_cast<std::uint32_t>(std::countl_zero(significand)) - 21;  // of 11 bits
    return std::bit_cast<float>(sign | ((113 - leading) << 23) | ((significand << (13 + leading)) & 0x7fffffU));
}

}  // namespace detail

/// bfloat16: the upper half of a float.
struct bf16 {
    std::uint16_t bits = 0;

    constexpr bf16() = default;
    constexpr explicit bf16(float value) : bits(detail::float_to_bf16_bits(value)) {}
    constexpr explicit bf16(double value) : bits(detail::float_to_bf16_bits(detail::round_to_odd(value))) {}
    constexpr explicit operator float() const { return detail::bf16_bits_to_float(bits); }
    constexpr explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};

/// IEEE 754 binary16.
struct f16 {
    std::uint16_t bits = 0;

    constexpr f16() = default;
    constexpr explicit f16(float value) : bits(detail::float_to_f16_bits(value)) {}
    constexpr explicit f16(double value) : bits(detail::float_to_f16_bits(detail::round_to_odd(value))) {}
    constexpr explicit operator float() const { return detail::f16_bits_to_float(bits); }
    constexpr explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};

static_assert(sizeof(bf16) == 2 && std::is_trivially_copyable_v<bf16>);
static_assert(sizeof(f16) == 2 && std::is_trivially_copyable_v<f16>);

/// A type that weights and activations may be stored in.
template <class T>
concept Scalar = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bf16> || std::same_as<T, f16>;

/// A type that products are accumulated and decompositions computed in.
template <class T>
concept ComputeScalar = std::same_as<T, float> || std::same_as<T, double>;

/// double for double, float for every other storage type.
template <Scalar T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// True unless the value is NaN or infinite. Tests bits, so that it also holds under -ffast-math.
constexpr bool is_finite(float value) {
    return (std::bit_cast<std::uint32_t>(value) & 0x7f800000U) != 0x7f800000U;
}
constexpr bool is_finite(double value) {
    return (std::bit_cast<std::uint64_t>(value) & 0x7ff0000000000000U) != 0x7ff0000000000000U;
}
constexpr bool is_finite(bf16 value) {
    return (value.bits & 0x7f80U) != 0x7f80U;
}
constexpr bool is_finite(f16 value) {
    return (value.bits & 0x7c00U) != 0x7c00U;
}

}  // namespace lowrank
