// lowrank - the source of the fused one-row kernel: y = (x W1) W2 + b in one launch.
// SPDX-License-Identifier: MIT
//
// Read as text (fused.hpp, for NVRTC), by nvcc (fused.cuh) and by the tests' emulation of a grid. It includes nothing;
// the prelude before it (fused_prelude.inl) gives LOWRANK_DEVICE, LOWRANK_KERNEL, LOWRANK_SHARED and the functions that
// need PTX. No preprocessor directives below, because they cannot be part of a macro's argument.
//
// Persistent blocks, launched cooperatively. Each first asks for its rows of W2^T, so that they travel to the L2 cache
// while x W1 is computed from W1^T; then all meet at a barrier. Sums are in float, in an order that depends only on the
// sizes and the grid.
//
// clang-format off
LOWRANK_KERNEL_SOURCE(

struct LowrankFusedRow {
    const void* x;              // d_in entries
    const void* w1;             // W1^T: rank rows of ld1 entries, ends padded with zeros to 16 bytes
    const void* w2;             // W2^T: d_out rows of ld2 entries, padded alike
    const void* bias;           // d_out entries, or null
    void* y;                    // d_out entries
    float* middle;              // rank entries of scratch
    unsigned long long* barrier;  // counts arrivals; 0 before the first launch, always used with the same grid
    int d_in;
    int rank;
    int d_out;
    int ld1;
    int ld2;
};

struct LowrankFloat {
    enum { kWidth = 4 };
    typedef unsigned int Bits;
    static LOWRANK_DEVICE float widen(Bits bits) { return lowrank_float_of(bits); }
    static LOWRANK_DEVICE Bits narrow(float value) { return lowrank_bits_of(value); }
    static LOWRANK_DEVICE float dot(uint4 w, const float* v) {
        return widen(w.x) * v[0] + widen(w.y) * v[1] + widen(w.z) * v[2] + widen(w.w) * v[3];
    }
};

template <class Half>
struct LowrankHalves {
    enum { kWidth = 8 };
    typedef unsigned short Bits;
    static LOWRANK_DEVICE float pair(unsigned int w, const float* v) {
        return Half::widen(static_cast<Bits>(w & 0xffffU)) * v[0] + Half::widen(static_cast<Bits>(w >> 16)) * v[1];
    }
    static LOWRANK_DEVICE float dot(uint4 w, const float* v) {
        return pair(w.x, v) + pair(w.y, v + 2) + pair(w.z, v + 4) + pair(w.w, v + 6);
    }
};

struct LowrankBf16 : LowrankHalves<LowrankBf16> {
    static LOWRANK_DEVICE float widen(Bits bits) {
        return lowrank_float_of(static_cast<unsigned int>(bits) << 16);
    }
    static LOWRANK_DEVICE Bits narrow(float value) {
        const unsigned int bits = lowrank_bits_of(value);
        if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<Bits>((bits >> 16) | 0x40U);
        return static_cast<Bits>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
    }
};

struct LowrankF16 : LowrankHalves<LowrankF16> {
    static LOWRANK_DEVICE float widen(Bits bits) { return lowrank_float_of_f16(bits); }
    static LOWRANK_DEVICE Bits narrow(float value) { return lowrank_f16_of_float(value); }
};

// The sum over `width` neighbouring lanes, in the first of them.
LOWRANK_DEVICE float lowrank_lane_sum(float sum, int width) {
    for (int offset = width / 2; offset > 0; offset /= 2) sum += lowrank_shuffle_down(sum, offset, width);
    return sum;
}

// Returns when all blocks have arrived; what they wrote before is then visible.
LOWRANK_DEVICE void lowrank_grid_barrier(unsigned long long* barrier) {
    lowrank_block_barrier();
    if (threadIdx.x == 0) {
        lowrank_fence();
        const unsigned long long blocks = gridDim.x;
        const unsigned long long target = (lowrank_count_arrival(barrier) / blocks + 1) * blocks;
        while (lowrank_read(barrier) < target) lowrank_pause();
        lowrank_fence();
    }
    lowrank_block_barrier();
}

template <class Element>
LOWRANK_DEVICE void lowrank_fused_row(const LowrankFusedRow& a) {
    LOWRANK_SHARED(shared);
    float* x = shared;
    float* middle = x + a.ld1;
    float* partial = middle + a.ld2;  // one for each warp
    typedef typename Element::Bits Bits;
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    const int block = static_cast<int>(blockIdx.x);
    const int blocks = static_cast<int>(gridDim.x);
    const int lane = thread % 32;
    const int warp = thread / 32;
    const int warps = threads / 32;
    const int vectors1 = a.ld1 / Element::kWidth;
    const int vectors2 = a.ld2 / Element::kWidth;

    // Half a warp for each column of the result: rows of W2^T are short.
    const int half = lane / 16;
    const int first_column = 2 * (block * warps + warp);
    const int column_step = 2 * blocks * warps;
    for (int base = first_column; base < a.d_out; base += column_step) {
        const int column = base + half;
        if (column >= a.d_out) continue;
        const uint4* row = static_cast<const uint4*>(a.w2) + static_cast<long long>(column) * vectors2;
        for (int i = 8 * (lane % 16); i < vectors2; i += 8 * 16) lowrank_prefetch(row + i);  // 128 bytes each
    }

    for (int i = thread; i < a.ld1; i += threads) {
        x[i] = i < a.d_in ? Element::widen(static_cast<const Bits*>(a.x)[i]) : 0.0F;
    }
    lowrank_block_barrier();

    // As many warps share a row of W1^T as keep all warps of the grid busy.
    int sharing = 1;
    while (2 * sharing <= warps && a.rank * 2 * sharing <= blocks * warps) sharing *= 2;
    const int rows_at_once = warps / sharing;
    for (int base = block * rows_at_once; base < a.rank; base += blocks * rows_at_once) {
        const int row = base + warp / sharing;
        const bool mine = warp / sharing < rows_at_once && row < a.rank;
        float sum = 0.0F;
        if (mine) {
            const uint4* w = static_cast<const uint4*>(a.w1) + static_cast<long long>(row) * vectors1;
            for (int i = 32 * (warp % sharing) + lane; i < vectors1; i += 32 * sharing) {
                sum += Element::dot(w[i], x + static_cast<int>(Element::kWidth) * i);
            }
        }
        sum = lowrank_lane_sum(sum, 32);
        if (lane == 0) partial[warp] = sum;
        lowrank_block_barrier();
        if (mine && lane == 0 && warp % sharing == 0) {
            float total = 0.0F;
            for (int i = 0; i < sharing; ++i) total += partial[warp + i];
            a.middle[row] = total;
        }
        lowrank_block_barrier();
    }
    lowrank_grid_barrier(a.barrier);

    for (int i = thread; i < a.ld2; i += threads) middle[i] = i < a.rank ? lowrank_read(a.middle + i) : 0.0F;
    lowrank_block_barrier();
    for (int base = first_column; base < a.d_out; base += column_step) {
        const int column = base + half;
        float sum = 0.0F;
        if (column < a.d_out) {
            const uint4* w = static_cast<const uint4*>(a.w2) + static_cast<long long>(column) * vectors2;
            for (int i = lane % 16; i < vectors2; i += 16) {
                sum += Element::dot(w[i], middle + static_cast<int>(Element::kWidth) * i);
            }
        }
        sum = lowrank_lane_sum(sum, 16);
        if (column < a.d_out && lane % 16 == 0) {
            if (a.bias != nullptr) sum += Element::widen(static_cast<const Bits*>(a.bias)[column]);
            static_cast<Bits*>(a.y)[column] = Element::narrow(sum);
        }
    }
}

LOWRANK_KERNEL lowrank_fused_row_f32(const LowrankFusedRow a) { lowrank_fused_row<LowrankFloat>(a); }
LOWRANK_KERNEL lowrank_fused_row_bf16(const LowrankFusedRow a) { lowrank_fused_row<LowrankBf16>(a); }
LOWRANK_KERNEL lowrank_fused_row_f16(const LowrankFusedRow a) { lowrank_fused_row<LowrankF16>(a); }

)
// clang-format on
