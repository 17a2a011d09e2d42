// lowrank - memory that starts on a cache line.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

namespace lowrank::detail {

inline constexpr std::size_t kCacheLine = 64;

// Not by the aligned operator new: before glibc 2.38 it hardly reuses what was freed (its bug 14581), and a process
// that decomposed 96 layers, one after the other, came to 1 GiB instead of 300 MiB. So a line more is asked for, and
// how far the line lies from the start of the allocation is kept in the byte before it.
struct FreeAligned {
    void operator()(void* memory) const noexcept {
        auto* const bytes = static_cast<std::byte*>(memory);
        ::operator delete(bytes - std::to_integer<std::size_t>(bytes[-1]));
    }
};

template <class T>
using AlignedArray = std::unique_ptr<T, FreeAligned>;

/// `count` elements with indeterminate values. Throws std::bad_alloc.
template <class T>
AlignedArray<T> allocate_aligned(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T> && alignof(T) <= kCacheLine);
    static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ >= 2);  // leaves room for the byte
    if (count > (std::numeric_limits<std::size_t>::max() - kCacheLine) / sizeof(T)) throw std::bad_array_new_length();
    auto* const start = static_cast<std::byte*>(::operator new(count * sizeof(T) + kCacheLine));
    const std::size_t distance = kCacheLine - reinterpret_cast<std::uintptr_t>(start) % kCacheLine;
    std::byte* const line = start + distance;
    line[-1] = static_cast<std::byte>(distance);
    return AlignedArray<T>(reinterpret_cast<T*>(line));
}

}  // namespace lowrank::detail
