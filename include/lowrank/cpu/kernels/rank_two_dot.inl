// lowrank - the kernel of the tridiagonalisation: a row's update and its next product in one pass. Included once for
// each level, in its namespace, with LOWRANK_TARGET as the level's attribute. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// The same for one vector, its products with `next` added to `sum`.
template <class V>
LOWRANK_INLINE typename V::Vector update_and_dot(typename V::Element* row, typename V::Vector minus_v,
                                                 typename V::Vector minus_w, const typename V::Element* v,
                                                 const typename V::Element* w, const typename V::Element* next,
                                                 typename V::Vector sum) {
    typename V::Vector x = V::load(row);
    x = V::fma(minus_v, V::load(w), x);
    x = V::fma(minus_w, V::load(v), x);
    V::store(row, x);
    return V::fma(x, V::load(next), sum);
}

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
            sums[i] = update_and_dot<V>(row + at, minus_v, minus_w, v + at, w + at, next + at, sums[i]);
        }
    }
    for (; j + V::kWidth <= n; j += V::kWidth) {
        sums[0] = update_and_dot<V>(row + j, minus_v, minus_w, v + j, w + j, next + j, sums[0]);
    }
    // By halves: a chain of additions over all lanes would take longer than the row itself.
    Element lanes[V::kWidth];
    V::store(lanes, V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
    for (int half = V::kWidth / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    Element sum = lanes[0];
    for (; j < n; ++j) {
        row[j] -= row_v * w[j] + row_w * v[j];
        sum += row[j] * next[j];
    }
    return sum;
}
