// lowrank - the kernel of the tridiagonalisation: a row's update and its next product in one pass. Included once for
// each level, in its namespace, with LOWRANK_TARGET as the level's attribute. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// row -= row_v w + row_w v; returns row . next. Arrays of n entries.
template <class V>
LOWRANK_TARGET typename V::Element rank_two_dot(std::int64_t n, typename V::Element* row, typename V::Element row_v,
                                                typename V::Element row_w, const typename V::Element* v,
                                                const typename V::Element* w, const typename V::Element* next) {
    using Element = typename V::Element;
    constexpr int kVectors = 4;
    constexpr int kStep = kVectors * V::kWidth;
    const typename V::Vector minus_v = V::broadcast(-row_v);
    const typename V::Vector minus_w = V::broadcast(-row_w);
    typename V::Vector sums[kVectors];
    LOWRANK_UNROLL
    for (int i = 0; i < kVectors; ++i) sums[i] = V::zero();
    std::int64_t j = 0;
    for (; j + kStep <= n; j += kStep) {
        LOWRANK_UNROLL
        for (int i = 0; i < kVectors; ++i) {
            const std::int64_t at = j + i * V::kWidth;
            typename V::Vector x = V::load(row + at);
            x = V::fma(minus_v, V::load(w + at), x);
            x = V::fma(minus_w, V::load(v + at), x);
            V::store(row + at, x);
            sums[i] = V::fma(x, V::load(next + at), sums[i]);
        }
    }
    Element lanes[kStep];
    LOWRANK_UNROLL
    for (int i = 0; i < kVectors; ++i) V::store(lanes + i * V::kWidth, sums[i]);
    Element sum = 0;
    for (int i = 0; i < kStep; ++i) sum += lanes[i];
    for (; j < n; ++j) {
        row[j] -= row_v * w[j] + row_w * v[j];
        sum += row[j] * next[j];
    }
    return sum;
}
