// Emulated memory. Device memory is mapped twice: the address that the program gets can be neither read nor written, so
// that code of the host that follows a device pointer crashes at once; kernels use the second mapping. New memory is
// filled with NaN, and an allocation ends at its last byte: the bytes up to the next are never part of a call's
// operand.
#include "state.hpp"

#include <cstring>
#include <new>
#include <stdexcept>

#include <sys/mman.h>
#include <unistd.h>

namespace emulation {

namespace {

constexpr std::size_t kArena = std::size_t{256} << 20U;
constexpr std::size_t kAlignment = 256;  // of cudaMalloc, CUDA C++ Programming Guide, "Device Memory Accesses"
constexpr int kPoison = 0xff;            // every float type's NaN

struct Arena {
    Arena() {
        const int file = memfd_create("device", 0);
        if (file < 0 || ftruncate(file, static_cast<off_t>(kArena)) != 0) throw std::bad_alloc();
        program = static_cast<char*>(mmap(nullptr, kArena, PROT_NONE, MAP_SHARED, file, 0));
        kernels = static_cast<char*>(mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
        close(file);
        if (program == MAP_FAILED || kernels == MAP_FAILED) throw std::bad_alloc();
    }
    [[nodiscard]] bool holds(const void* address) const {
        const auto* byte = static_cast<const char*>(address);
        return byte >= program && byte < program + kArena;
    }
    char* program = nullptr;
    char* kernels = nullptr;
};

Arena& arena() {
    static Arena arena;
    return arena;
}

}  // namespace

void* alias(const void* address) {
    if (!arena().holds(address)) return const_cast<void*>(address);
    return arena().kernels + (static_cast<const char*>(address) - arena().program);
}

void* allocate_device(std::size_t bytes) {
    State& s = state();
    if (s.device_used + bytes > s.device_memory) return nullptr;
    // First fit, with at least a guard of one alignment between neighbours.
    auto begin = reinterpret_cast<std::uintptr_t>(arena().program);
    const std::uintptr_t end = begin + kArena;
    const auto up = [](std::uintptr_t x) { return (x + kAlignment - 1) / kAlignment * kAlignment; };
    for (const auto& [address, allocation] : s.allocations) {
        if (allocation.kind != Kind::device) continue;
        if (begin + bytes + kAlignment <= address) break;
        begin = up(address + allocation.bytes) + kAlignment;
    }
    if (begin + bytes + kAlignment > end) return nullptr;
    auto* address = reinterpret_cast<void*>(begin);
    std::memset(alias(address), kPoison, bytes);
    s.allocations.emplace(begin, Allocation{bytes, Kind::device});
    s.device_used += bytes;
    return address;
}

void* allocate_pinned(std::size_t bytes) {
    void* address = ::operator new (bytes, std::align_val_t{kAlignment});
    std::memset(address, kPoison, bytes);
    state().allocations.emplace(reinterpret_cast<std::uintptr_t>(address), Allocation{bytes, Kind::pinned});
    return address;
}

bool free_memory(void* address, Kind kind) {
    State& s = state();
    const auto found = s.allocations.find(reinterpret_cast<std::uintptr_t>(address));
    if (found == s.allocations.end() || found->second.kind != kind) return false;
    if (kind == Kind::device) {
        s.device_used -= found->second.bytes;
        std::memset(alias(address), kPoison, found->second.bytes);
    }
    s.allocations.erase(found);
    if (kind == Kind::pinned) ::operator delete (address, std::align_val_t{kAlignment});
    return true;
}

const Allocation* find_allocation(const void* address, std::size_t bytes) {
    const State& s = state();
    const auto first = reinterpret_cast<std::uintptr_t>(address);
    auto after = s.allocations.upper_bound(first);
    if (after == s.allocations.begin()) return nullptr;
    --after;
    return first + bytes <= after->first + after->second.bytes ? &after->second : nullptr;
}

bool is_device(const void* address, std::size_t bytes) {
    const Allocation* allocation = find_allocation(address, bytes);
    return allocation != nullptr && allocation->kind == Kind::device;
}

bool device_rule(Call& call, const char* argument, const void* address, std::size_t bytes) {
    return bytes == 0 ||
           call.rule(is_device(address, bytes),
                     std::string(argument) + " is not " + std::to_string(bytes) + " bytes of device memory",
                     "cuBLAS Library, 2.1 General Description: the application must allocate the required "
                     "matrices and vectors in GPU memory");
}

}  // namespace emulation
