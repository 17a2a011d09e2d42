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

/// c = a w, or c + a w unless c is rounded, for a tile of kRows x (kPanels * kPanelWidth). The rows of a lie `a_stride`
/// bytes apart, each in the order of the inner dimension; `w_bytes` are `steps` steps of kPanels panels of a
/// PackedWeight, which lie `panel_stride` elements apart. The sum is split by kChains, so that few rows do not wait for
/// each other's additions. Each step fetches a cache line, the first at `ahead`, each of the others `ahead_stride`
/// bytes behind the last.
template <class V, int kRows, int kPanels, int kChains, class Result = typename V::Element>
LOWRANK_TARGET void forward_tile(std::int64_t steps, const std::byte* a, std::int64_t a_stride, const void* w_bytes,
                                 std::int64_t panel_stride, const std::byte* ahead, std::int64_t ahead_stride,
                                 void* c_bytes, std::int64_t ldc, bool accumulate) {
    using Element = typename V::Element;
    constexpr int kStepElements = kStoredPerStep<typename V::Stored>;
    constexpr int kWidth = V::kWidth;
    constexpr int kPerPanel = kPanelWidth<Element> / kWidth;
    constexpr int kVectors = kPanels * kPerPanel;
    constexpr int kStepWeights = kPanelWidth<Element> * kStepElements;
    constexpr std::int64_t kEntryBytes = sizeof(typename V::Packed);
    // An x86 address is a register and another times 1 or 2: so each register serves three rows.
    constexpr int kRowsPerBase = 3;
    constexpr int kBases = (kRows + kRowsPerBase - 1) / kRowsPerBase;
    const auto* w = static_cast<const typename V::Stored*>(w_bytes);
    auto* c = static_cast<Result*>(c_bytes);
    const std::byte* bases[kBases];
    LOWRANK_UNROLL
    for (int i = 0; i < kBases; ++i) bases[i] = a + kRowsPerBase * i * a_stride;
    typename V::Vector sums[kChains][kRows][kVectors];
    LOWRANK_UNROLL
    for (int s = 0; s < kChains; ++s) {
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            LOWRANK_UNROLL
            for (int j = 0; j < kVectors; ++j) sums[s][i][j] = V::zero();
        }
    }
    std::int64_t k = 0;
    for (; k + kChains <= steps; k += kChains) {
        LOWRANK_UNROLL
        for (int i = 0; i < kBases; ++i) LOWRANK_KEEP_IN_REGISTER(bases[i]);
        LOWRANK_UNROLL
        for (int s = 0; s < kChains; ++s) {
            prefetch(ahead + (k + s) * ahead_stride);
            LOWRANK_UNROLL
            for (int d = 0; d < V::kDepth; ++d) {
                typename V::Operand columns[kVectors];
                LOWRANK_UNROLL
                for (int j = 0; j < kVectors; ++j) {
                    columns[j] = V::load_stored(w + s * kStepWeights + (j / kPerPanel) * panel_stride +
                                                    (j % kPerPanel) * kWidth * kStepElements,
                                                d);
                }
                LOWRANK_UNROLL
                for (int i = 0; i < kRows; ++i) {
                    const typename V::Operand row = broadcast_entry<V>(
                        bases[i / kRowsPerBase] + (i % kRowsPerBase) * a_stride + (s * V::kDepth + d) * kEntryBytes);
                    LOWRANK_UNROLL
                    for (int j = 0; j < kVectors; ++j) {
                        sums[s][i][j] = V::multiply_add(row, columns[j], sums[s][i][j]);
                    }
                }
            }
        }
        LOWRANK_UNROLL
        for (int i = 0; i < kBases; ++i) bases[i] += kChains * V::kDepth * kEntryBytes;
        w += kChains * kStepWeights;
    }
    for (; k < steps; ++k) {
        LOWRANK_UNROLL
        for (int d = 0; d < V::kDepth; ++d) {
            LOWRANK_UNROLL
            for (int j = 0; j < kVectors; ++j) {
                const typename V::Operand column =
                    V::load_stored(w + (j / kPerPanel) * panel_stride + (j % kPerPanel) * kWidth * kStepElements, d);
                LOWRANK_UNROLL
                for (int i = 0; i < kRows; ++i) {
                    const typename V::Operand row =
                        broadcast_entry<V>(bases[i / kRowsPerBase] + (i % kRowsPerBase) * a_stride + d * kEntryBytes);
                    sums[0][i][j] = V::multiply_add(row, column, sums[0][i][j]);
                }
            }
        }
        LOWRANK_UNROLL
        for (int i = 0; i < kBases; ++i) bases[i] += V::kDepth * kEntryBytes;
        w += kStepWeights;
    }
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
        LOWRANK_UNROLL
        for (int j = 0; j < kVectors; ++j) {
            LOWRANK_UNROLL
            for (int s = 1; s < kChains; ++s) sums[0][i][j] = V::add(sums[0][i][j], sums[s][i][j]);
            Result* to = c + i * ldc + j * kWidth;
            if constexpr (std::is_same_v<Result, Element>) {
                V::store(to, accumulate ? V::add(V::load(to), sums[0][i][j]) : sums[0][i][j]);
            } else {
                V::store_as(to, sums[0][i][j]);
            }
        }
    }
}

/// The kernel of few rows.
template <class V, int kRows, int kChains>
ForwardTile<typename V::Element> one_panel() {
    return {kRows, 1, forward_tile<V, kRows, 1, kChains>, forward_tile<V, kRows, 1, kChains>};
}

/// The kernels of a level with 32 registers of 64 bytes.
template <class V>
ForwardKernels<typename V::Element> forward_table() {
    constexpr bool kPairs = !std::is_same_v<typename V::Packed, typename V::Element>;
    constexpr int kEntryBytes = sizeof(typename V::Packed);
    return {.tiles = {one_panel<V, 1, 8>(), one_panel<V, 2, 4>(), one_panel<V, 4, 4>(), one_panel<V, 6, 2>(),
                      one_panel<V, 8, 2>(), one_panel<V, 10, 1>(), one_panel<V, 12, 1>(), one_panel<V, 16, 1>(),
                      ForwardTile<typename V::Element>{14, 2, forward_tile<V, 14, 2, 1>, forward_tile<V, 14, 1, 1>,
                                                       forward_tile<V, 14, 2, 1, typename V::Stored>}},
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
