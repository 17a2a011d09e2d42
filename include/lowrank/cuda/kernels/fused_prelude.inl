// lowrank - what fused_row.inl takes from the GPU. Read like it: as text by NVRTC, as code by nvcc.
// SPDX-License-Identifier: MIT
//
// clang-format off
LOWRANK_KERNEL_SOURCE(

LOWRANK_DEVICE float lowrank_float_of(unsigned int bits) { return __uint_as_float(bits); }
LOWRANK_DEVICE unsigned int lowrank_bits_of(float value) { return __float_as_uint(value); }
LOWRANK_DEVICE float lowrank_float_of_f16(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
LOWRANK_DEVICE unsigned short lowrank_f16_of_float(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
LOWRANK_DEVICE float lowrank_shuffle_down(float value, int offset, int width) {
    return __shfl_down_sync(0xffffffffU, value, static_cast<unsigned int>(offset), width);
}
LOWRANK_DEVICE void lowrank_block_barrier() { __syncthreads(); }
LOWRANK_DEVICE void lowrank_fence() { __threadfence(); }
LOWRANK_DEVICE unsigned long long lowrank_count_arrival(unsigned long long* count) {
    return atomicAdd(count, 1ULL);
}
template <class T>
LOWRANK_DEVICE T lowrank_read(const T* address) {
    return *static_cast<const volatile T*>(address);
}
LOWRANK_DEVICE void lowrank_pause() { __nanosleep(20); }
LOWRANK_DEVICE void lowrank_prefetch(const void* address) {
    asm volatile("prefetch.global.L2 [%0];" : : "l"(address));
}

)
// clang-format on
