// Counts every allocation of a test program, so that a test can require none. It replaces the global operators, so one
// source of a program may include it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace test {

inline std::atomic<long> allocations = 0;

inline void* counted_allocation(std::size_t size, std::size_t alignment) {
    ++allocations;
    void* memory = alignment == 0 ? std::malloc(size)
                                  : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}  // namespace test

// Every allocation of this program is counted, so that a test can require none.
void* operator new(std::size_t size) {
    return test::counted_allocation(size, 0);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    return test::counted_allocation(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    ++test::allocations;
    return std::malloc(size);
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
