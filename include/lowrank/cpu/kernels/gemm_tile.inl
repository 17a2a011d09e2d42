// lowrank - the register kernel of the general product. Included once for each level, in its namespace, with
// LOWRANK_TARGET as the level's attribute: the one source of all levels. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// What the sums of a row are multiplied by. `units` are the packed rows' step behind the last.
template <class V>
LOWRANK_INLINE auto row_scale(typename V::Element alpha, [[maybe_unused]] const typename V::Packed* units) {
    if constexpr (kInUnits<V>) {
        return V::row_scale(alpha, units);
    } else {
        return V::broadcast(alpha);
    }
}

/// The same of the columns.
template <class V, class Scale>
LOWRANK_INLINE auto scaled(typename V::Vector sum, Scale row_scale,
                           [[maybe_unused]] const typename V::Packed* column_units) {
    if constexpr (kInUnits<V>) {
        return V::result(sum, row_scale, column_units);
    } else {
        return V::mul(row_scale, sum);
    }
}

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
    // `a` and `b` are behind their last step.
    const auto keep = V::broadcast(beta);
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
        const auto scale = row_scale<V>(alpha, a + i);
        LOWRANK_UNROLL
        for (int j = 0; j < kVectors; ++j) {
            Element* to = c + i * ldc + j * kWidth;
            const auto product =
                scaled<V>(sums[i][j], scale, b + (j / kPerPanel) * panel_stride + j % kPerPanel * kWidth);
            V::store(to, beta == Element{0} ? product : V::fma(keep, V::load(to), product));
        }
    }
}
