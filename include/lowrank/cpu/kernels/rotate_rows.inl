// lowrank - the register kernel that applies sweeps of plane rotations. Included once for each level, in its namespace,
// with LOWRANK_TARGET as the level's attribute. No include guard on purpose.
// SPDX-License-Identifier: MIT

/// Applies rotations of neighbouring rows to a stripe of kLanes columns, rows kLanes apart. The pairs are (k, k + 1)
/// for k = begin, begin - 1, ..., begin - count + 1; the shared row stays in registers.
template <class V, int kLanes>
LOWRANK_TARGET void rotate_rows(const PlaneRotation<typename V::Element>* rotation, std::int64_t begin,
                                std::int64_t count, typename V::Element* stripe) {
    constexpr int kVectors = kLanes / V::kWidth;
    using Vector = typename V::Vector;
    Vector lower[kVectors];
    typename V::Element* row = stripe + (begin + 1) * kLanes;
    LOWRANK_UNROLL
    for (int j = 0; j < kVectors; ++j) lower[j] = V::load(row + j * V::kWidth);
    for (std::int64_t i = 0; i < count; ++i) {
        const Vector c = V::broadcast(rotation[i].c);
        const Vector s = V::broadcast(rotation[i].s);
        const Vector minus_s = V::broadcast(-rotation[i].s);
        typename V::Element* above = row - kLanes;
        LOWRANK_UNROLL
        for (int j = 0; j < kVectors; ++j) {
            const Vector upper = V::load(above + j * V::kWidth);
            V::store(row + j * V::kWidth, V::fma(s, upper, V::mul(c, lower[j])));
            lower[j] = V::fma(minus_s, lower[j], V::mul(c, upper));
        }
        row = above;
    }
    LOWRANK_UNROLL
    for (int j = 0; j < kVectors; ++j) V::store(row + j * V::kWidth, lower[j]);
}
