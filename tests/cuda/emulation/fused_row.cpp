#include "fused_row.hpp"
#include "grid.hpp"

#include <lowrank/scalar.hpp>

#include <bit>
#include <cstring>
#include <functional>

namespace emulation {

namespace {

// What fused_prelude.inl gives on a GPU.
#define LOWRANK_DEVICE inline
#define LOWRANK_KERNEL [[maybe_unused]] void
#define LOWRANK_SHARED(name) float* name = Grid::current().shared()
#define threadIdx (Grid::current().thread())
#define blockIdx (Grid::current().block())
#define blockDim (Grid::current().threads())
#define gridDim (Grid::current().blocks())

float lowrank_float_of(unsigned int bits) {
    return std::bit_cast<float>(bits);
}
unsigned int lowrank_bits_of(float value) {
    return std::bit_cast<unsigned int>(value);
}
float lowrank_float_of_f16(unsigned short bits) {
    lowrank::f16 value;
    value.bits = bits;
    return static_cast<float>(value);
}
unsigned short lowrank_f16_of_float(float value) {
    return lowrank::f16(value).bits;
}
float lowrank_shuffle_down(float value, int offset, int width) {
    return Grid::current().shuffle_down(value, offset, width);
}
void lowrank_block_barrier() {
    Grid::current().block_barrier();
}
void lowrank_fence() {}
unsigned long long lowrank_count_arrival(unsigned long long* count) {
    return (*count)++;
}
template <class T>
T lowrank_read(const T* address) {
    return *static_cast<const volatile T*>(address);
}
void lowrank_pause() {
    Grid::current().give_way();
}
void lowrank_prefetch(const void*) {}

#define LOWRANK_KERNEL_SOURCE(...) __VA_ARGS__
#include <lowrank/cuda/kernels/fused_row.inl>

}  // namespace

bool run_fused_row(const std::string& name, const lowrank::cuda::detail::FusedRowArguments& arguments, unsigned blocks,
                   unsigned threads, std::size_t shared_bytes, int order) {
    LowrankFusedRow a;
    static_assert(sizeof(a) == sizeof(arguments), "the kernel's arguments and the host's must be the same structure");
    std::memcpy(&a, &arguments, sizeof(a));
    void (*kernel)(LowrankFusedRow) = nullptr;
    if (name == "lowrank_fused_row_f32") kernel = lowrank_fused_row_f32;
    if (name == "lowrank_fused_row_bf16") kernel = lowrank_fused_row_bf16;
    if (name == "lowrank_fused_row_f16") kernel = lowrank_fused_row_f16;
    if (kernel == nullptr) return false;
    Grid(
        blocks, threads, shared_bytes, [&] { kernel(a); }, order)
        .run();
    return true;
}

}  // namespace emulation
