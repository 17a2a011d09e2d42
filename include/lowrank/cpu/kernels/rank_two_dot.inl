// lowrank - the kernel of the tridiagonalisation: the update of rows and their next products in one pass. Included once
// for each level, in its namespace, with LOWRANK_TARGET as the level's attribute. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// For each of kRows rows, `stride` entries apart: row -= row_v[i] w + row_w[i] v, and products[i] = row . next. Arrays
/// of n entries.
template <class V, int kRows>
LOWRANK_TARGET void rank_two_dot(std::int64_t n, typename V::Element* rows, std::int64_t stride,
                                 const typename V::Element* row_v, const typename V::Element* row_w,
                                 const typename V::Element* v, const typename V::Element* w,
                                 const typename V::Element* next, typename V::Element* products) {
    using Element = typename V::Element;
    constexpr int kWidth = V::kWidth;
    typename V::Vector minus_v[kRows];
    typename V::Vector minus_w[kRows];
    typename V::Vector sums[kRows];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
        minus_v[i] = V::broadcast(-row_v[i]);
        minus_w[i] = V::broadcast(-row_w[i]);
        sums[i] = V::zero();
    }
    std::int64_t j = 0;
    for (; j + kWidth <= n; j += kWidth) {
        const typename V::Vector of_v = V::load(v + j);
        const typename V::Vector of_w = V::load(w + j);
        const typename V::Vector of_next = V::load(next + j);
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            Element* row = rows + i * stride + j;
            const typename V::Vector x = V::fma(minus_w[i], of_v, V::fma(minus_v[i], of_w, V::load(row)));
            V::store(row, x);
            sums[i] = V::fma(x, of_next, sums[i]);
        }
    }
    // By halves: a chain of additions over all lanes would take longer than the row itself.
    Element lanes[kRows][kWidth];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) V::store(lanes[i], sums[i]);
    LOWRANK_UNROLL
    for (int half = kWidth / 2; half > 0; half /= 2) {
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            for (int lane = 0; lane < half; ++lane) lanes[i][lane] += lanes[i][lane + half];
        }
    }
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) products[i] = lanes[i][0];
    for (; j < n; ++j) {
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
            Element& entry = rows[i * stride + j];
            entry -= row_v[i] * w[j] + row_w[i] * v[j];
            products[i] += entry * next[j];
        }
    }
}
