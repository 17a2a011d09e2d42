// lowrank - the register kernel of the general product. Included once for each level, in its namespace, with
// LOWRANK_TARGET as the level's attribute: the one source of all levels. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// c = alpha a b + beta c for a tile of kRows x (kPanels * kPanelWidth), beta = 0 meaning that c is not read.
/// `a` is packed kRows values per step, `b` in panels of kPanelWidth values per step, `panel_stride` apart.
template <class V, int kRows, int kPanels>
LOWRANK_TARGET void gemm_tile(std::int64_t steps, const typename V::Packed* a, const typename V::Packed* b,
                              std::int64_t panel_stride, typename V::Element alpha, typename V::Element beta,
                              typename V::Element* c, std::int64_t ldc) {
    using Element = typename V::Element;
    constexpr int kWidth = V::kWidth;
    constexpr int kPerPanel = kPanelWidth<Element> / kWidth;
    constexpr int kVectors = kPanels * kPerPanel;
    typename V::Vector sums[kRows][kVectors];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
        LOWRANK_UNROLL
        for (int j = 0; j < kVectors; ++j) sums[i][j] = V::zero();
    }
    // What the sums will be written to, which the steps leave time to fetch.
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
        LOWRANK_UNROLL
        for (int j = 0; j < kVectors; ++j) prefetch_to_write(c + i * ldc + j * kWidth);
    }
    for (std::int64_t k = 0; k < steps; ++k) {
        typename V::Operand columns[kVectors];
        LOWRANK_UNROLL
        for (int j = 0; j < kVectors; ++j) {
            columns[j] = V::load_packed(b + (j / kPerPanel) * panel_stride + (j % kPerPanel) * kWidth);
        }
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            const typename V::Operand row = V::broadcast_packed(a + i);
            LOWRANK_UNROLL
            for (int j = 0; j < kVectors; ++j) sums[i][j] = V::multiply_add(row, columns[j], sums[i][j]);
        }
        a += kRows;
        b += kPanelWidth<Element>;
    }
    const typename V::Vector scale = V::broadcast(alpha);
    const typename V::Vector keep = V::broadcast(beta);
    if (beta == Element{0}) {
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            LOWRANK_UNROLL
            for (int j = 0; j < kVectors; ++j) V::store(c + i * ldc + j * kWidth, V::mul(scale, sums[i][j]));
        }
    } else {
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            LOWRANK_UNROLL
            for (int j = 0; j < kVectors; ++j) {
                Element* to = c + i * ldc + j * kWidth;
                V::store(to, V::fma(keep, V::load(to), V::mul(scale, sums[i][j])));
            }
        }
    }
}
