// lowrank - random numbers by place: the same for any number of threads, on the CPU and on devices.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lowrank::detail {

/// splitmix64's finaliser (Steele, Lea, Flood 2014): 64 well mixed bits from a counter.
constexpr std::uint64_t mixed_bits(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31U);
}

/// Mean 0 and nearly normal: the sum of four uniform 16-bit numbers.
constexpr double random_entry(std::uint64_t seed, std::uint64_t place) {
    const std::uint64_t bits = mixed_bits(mixed_bits(seed) + place);
    const auto sum =
        static_cast<std::int64_t>((bits & 0xffffU) + (bits >> 16U & 0xffffU) + (bits >> 32U & 0xffffU) + (bits >> 48U));
    return static_cast<double>(sum - 2 * 0xffff) / 0x10000;
}

/// 1 or -1.
constexpr double random_sign(std::uint64_t seed, std::uint64_t place) {
    return random_entry(seed, place) < 0 ? -1 : 1;
}

}  // namespace lowrank::detail
