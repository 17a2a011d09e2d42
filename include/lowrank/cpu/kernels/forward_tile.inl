// lowrank - the register kernels of the forward path. Included once for each level, in its namespace, with
// LOWRANK_TARGET as the level's attribute: the one source of all levels. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// An entry of a row, wherever it lies: X need not be aligned as pairs of its elements are.
template <class V>
LOWRANK_INLINE typename V::Operand broadcast_entry(const std::byte* from) {
    typename V::Packed entry;
    std::memcpy(&entry, from, sizeof(entry));
    return V::broadcast_packed(&entry);
}

/// sums += a w for one step of the inner dimension. The rows of a lie `a_stride` bytes apart, each of `bases` serving
/// kRowsPerBase of them: an x86 address is a register and another times 1 or 2.
template <class V, int kRows, int kPanels>
struct ForwardStep {
    static constexpr int kRowsPerBase = 3;
    static constexpr int kBases = (kRows + kRowsPerBase - 1) / kRowsPerBase;
    static constexpr int kElements = kStoredPerStep<typename V::Stored>;
    static constexpr int kWeights = kPanelWidth<typename V::Element> * kElements;
    static constexpr int kPerPanel = kPanelWidth<typename V::Element> / V::kWidth;
    static constexpr int kVectors = kPanels * kPerPanel;
    static constexpr std::int64_t kEntryBytes = sizeof(typename V::Packed);
    static constexpr std::int64_t kRowBytes = V::kDepth * kEntryBytes;  ///< what a row's part of a step takes

    /// `step` is the step's number from where the bases and w are.
    LOWRANK_INLINE static void add(const std::byte* const (&bases)[kBases], std::int64_t a_stride,
                                   const typename V::Stored* w, std::int64_t panel_stride, int step,
                                   typename V::Vector (&sums)[kRows][kVectors]) {
        LOWRANK_UNROLL
        for (int d = 0; d < V::kDepth; ++d) {
            typename V::Operand columns[kVectors];
            LOWRANK_UNROLL
            for (int j = 0; j < kVectors; ++j) {
                columns[j] = V::load_stored(
                    w + step * kWeights + (j / kPerPanel) * panel_stride + (j % kPerPanel) * V::kWidth * kElements, d);
            }
            LOWRANK_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const typename V::Operand row = broadcast_entry<V>(
                    bases[i / kRowsPerBase] + (i % kRowsPerBase) * a_stride + step * kRowBytes + d * kEntryBytes);
                LOWRANK_UNROLL
                for (int j = 0; j < kVectors; ++j) sums[i][j] = V::multiply_add(row, columns[j], sums[i][j]);
            }
        }
    }
};

/// c = a w, or c + a w unless c is rounded, for a tile of kRows x (kPanels * kPanelWidth). The rows of a lie `a_stride`
/// bytes apart, each in the order of the inner dimension; `w_bytes` are `steps` steps of kPanels panels of a
/// PackedWeight, which lie `panel_stride` elements apart. The sum is split by kChains, so that few rows do not wait for
/// each other's additions; a round of the loop takes kUnrolled steps, a multiple of that. Each step fetches a cache
/// line, the first at `ahead`, each of the others `ahead_stride` bytes behind the last.
template <class V, int kRows, int kPanels, int kChains, int kUnrolled = kChains, class Result = typename V::Element>
LOWRANK_TARGET void forward_tile(std::int64_t steps, const std::byte* a, std::int64_t a_stride, const void* w_bytes,
                                 std::int64_t panel_stride, const std::byte* ahead, std::int64_t ahead_stride,
                                 void* c_bytes, std::int64_t ldc, bool accumulate) {
    static_assert(kUnrolled % kChains == 0);
    using Step = ForwardStep<V, kRows, kPanels>;
    const auto* w = static_cast<const typename V::Stored*>(w_bytes);
    auto* c = static_cast<Result*>(c_bytes);
    const std::byte* bases[Step::kBases];
    LOWRANK_UNROLL
    for (int i = 0; i < Step::kBases; ++i) bases[i] = a + Step::kRowsPerBase * i * a_stride;
    typename V::Vector sums[kChains][kRows][Step::kVectors];
    LOWRANK_UNROLL
    for (int s = 0; s < kChains; ++s) {
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            LOWRANK_UNROLL
            for (int j = 0; j < Step::kVectors; ++j) sums[s][i][j] = V::zero();
        }
    }
    std::int64_t k = 0;
    for (; k + kUnrolled <= steps; k += kUnrolled) {
        LOWRANK_UNROLL
        for (int i = 0; i < Step::kBases; ++i) LOWRANK_KEEP_IN_REGISTER(bases[i]);
        LOWRANK_UNROLL
        for (int u = 0; u < kUnrolled; ++u) {
            prefetch(ahead + (k + u) * ahead_stride);
            Step::add(bases, a_stride, w, panel_stride, u, sums[u % kChains]);
        }
        LOWRANK_UNROLL
        for (int i = 0; i < Step::kBases; ++i) bases[i] += kUnrolled * Step::kRowBytes;
        w += kUnrolled * Step::kWeights;
    }
    for (; k < steps; ++k) {
        Step::add(bases, a_stride, w, panel_stride, 0, sums[0]);
        LOWRANK_UNROLL
        for (int i = 0; i < Step::kBases; ++i) bases[i] += Step::kRowBytes;
        w += Step::kWeights;
    }
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
        LOWRANK_UNROLL
        for (int j = 0; j < Step::kVectors; ++j) {
            LOWRANK_UNROLL
            for (int s = 1; s < kChains; ++s) sums[0][i][j] = V::add(sums[0][i][j], sums[s][i][j]);
            Result* to = c + i * ldc + j * V::kWidth;
            if constexpr (std::is_same_v<Result, typename V::Element>) {
                V::store(to, accumulate ? V::add(V::load(to), sums[0][i][j]) : sums[0][i][j]);
            } else {
                V::store_as(to, sums[0][i][j]);
            }
        }
    }
}

/// The kernel of few rows.
template <class V, int kRows, int kChains, int kUnrolled = kChains>
ForwardTile<typename V::Element> one_panel() {
    return {kRows, 1, forward_tile<V, kRows, 1, kChains, kUnrolled>, forward_tile<V, kRows, 1, kChains, kUnrolled>};
}

/// The kernels of a level with 32 registers of 64 bytes.
template <class V>
ForwardKernels<typename V::Element> forward_table() {
    constexpr bool kPairs = !std::is_same_v<typename V::Packed, typename V::Element>;
    constexpr int kEntryBytes = sizeof(typename V::Packed);
    return {.tiles = {one_panel<V, 1, 8>(), one_panel<V, 2, 4>(), one_panel<V, 4, 4>(), one_panel<V, 6, 2>(),
                      one_panel<V, 8, 2>(), one_panel<V, 10, 1>(), one_panel<V, 12, 1>(), one_panel<V, 16, 1>(),
                      ForwardTile<typename V::Element>{14, 2, forward_tile<V, 14, 2, 1>, forward_tile<V, 14, 1, 1>,
                                                       forward_tile<V, 14, 2, 1, 1, typename V::Stored>}},
            .count = 9,
            .block_tiles = 12,
            .block_entries = 2048 / kEntryBytes,
            .pairs = kPairs};
}

/// y = c + bias, rounded to Out, for `rows` x `columns`. `bias` may be null.
template <class V, class Out>
LOWRANK_TARGET void store_rows(const typename V::Element* c, std::int64_t ldc, const typename V::Element* bias,
                               std::int64_t rows, std::int64_t columns, Out* y, std::int64_t ldy) {
    constexpr std::int64_t kWidth = V::kWidth;
    const std::int64_t whole = columns / kWidth * kWidth;
    for (std::int64_t i = 0; i < rows; ++i, c += ldc, y += ldy) {
        for (std::int64_t j = 0; j < whole; j += kWidth) {
            const typename V::Vector sum = V::load(c + j);
            V::store_as(y + j, bias == nullptr ? sum : V::add(sum, V::load(bias + j)));
        }
        for (std::int64_t j = whole; j < columns; ++j) {
            y[j] = static_cast<Out>(bias == nullptr ? c[j] : c[j] + bias[j]);
        }
    }
}
