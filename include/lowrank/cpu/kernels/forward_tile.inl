// lowrank - the register kernels of the forward path. Included once for each level, in its namespace, with
// LOWRANK_TARGET as the level's attribute: the one source of all levels. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// c = a w, or c + a w, for a tile of kRows x (kPanels * kPanelWidth). `a_bytes` are the packed rows (see pack_rows),
/// `w_bytes` `steps` steps of kPanels panels of a PackedWeight, which lie `panel_stride` elements apart. The sum is
/// split by kChains, so that few rows do not wait for each other's additions. Each step fetches a cache line, the first
/// at `ahead`, each of the others `ahead_stride` bytes behind the last.
template <class V, int kRows, int kPanels, int kChains>
LOWRANK_TARGET void forward_tile(std::int64_t steps, const void* a_bytes, const void* w_bytes,
                                 std::int64_t panel_stride, const std::byte* ahead, std::int64_t ahead_stride,
                                 typename V::Element* c, std::int64_t ldc, bool accumulate) {
    using Element = typename V::Element;
    constexpr int kStepElements = kStoredPerStep<typename V::Stored>;
    constexpr int kWidth = V::kWidth;
    constexpr int kPerPanel = kPanelWidth<Element> / kWidth;
    constexpr int kVectors = kPanels * kPerPanel;
    constexpr int kStepWeights = kPanelWidth<Element> * kStepElements;
    const auto* a = static_cast<const typename V::Packed*>(a_bytes);
    const auto* w = static_cast<const typename V::Stored*>(w_bytes);
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
                    const typename V::Operand row = V::broadcast_packed(a + (s * V::kDepth + d) * kRows + i);
                    LOWRANK_UNROLL
                    for (int j = 0; j < kVectors; ++j) {
                        sums[s][i][j] = V::multiply_add(row, columns[j], sums[s][i][j]);
                    }
                }
            }
        }
        a += kChains * V::kDepth * kRows;
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
                    sums[0][i][j] = V::multiply_add(V::broadcast_packed(a + d * kRows + i), column, sums[0][i][j]);
                }
            }
        }
        a += V::kDepth * kRows;
        w += kStepWeights;
    }
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
        LOWRANK_UNROLL
        for (int j = 0; j < kVectors; ++j) {
            LOWRANK_UNROLL
            for (int s = 1; s < kChains; ++s) sums[0][i][j] = V::add(sums[0][i][j], sums[s][i][j]);
            Element* to = c + i * ldc + j * kWidth;
            V::store(to, accumulate ? V::add(V::load(to), sums[0][i][j]) : sums[0][i][j]);
        }
    }
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
