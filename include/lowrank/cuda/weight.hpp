// lowrank - a weight on the device made ready for a decomposition: finite, in the compute type, scaled, tall.
// SPDX-License-Identifier: MIT
//
// By library calls alone. Half types are widened by a product with the identity, which is exact: x * 1 + 0 + ... in
// float. Non-finite entries are found by the sums of the rows times a number so small that finite sums stay finite.
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/scratch.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cuda::detail {

template <class T>
using DeviceView = MatrixView<T, DeviceSpace>;

/// f16 sums fit into float as they are, and 2^-64 does not fit into f16.
template <Scalar T>
T finite_probe() {
    if constexpr (std::is_same_v<T, f16>) return f16(1.0F);
    return static_cast<T>(std::is_same_v<T, double> ? 0x1p-512 : 0x1p-64);
}

/// Throws ValueError naming the first NaN or infinity. `probe` and `sums` hold a.cols() and a.rows() entries. Waits.
template <Scalar T>
void require_finite(Context& context, DeviceView<const T> a, T* probe, compute_t<T>* sums, const std::string& name) {
    const std::vector<T> ones(static_cast<std::size_t>(a.cols()), finite_probe<T>());
    upload(context, ones.data(), a.cols(), probe);
    vendor::gemm<T>(context.blas(), a.rows(), 1, a.cols(), 1, {a.data(), a.leading_dimension(), true},
                    {probe, a.cols()}, 0, sums, a.rows(), name);
    std::vector<compute_t<T>> rows(static_cast<std::size_t>(a.rows()));
    download(context, sums, a.rows(), rows.data());
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        if (is_finite(rows[static_cast<std::size_t>(i)])) continue;
        const Matrix<T> row = to_host(context, a.block(i, 0, 1, a.cols()));
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            if (is_finite(row(0, j))) continue;
            throw ValueError(name + ", " + shape_string(a.rows(), a.cols()) + ", is not finite at row " +
                             std::to_string(i) + ", column " + std::to_string(j) +
                             ": a NaN or an infinity cannot be factorised");
        }
    }
}

/// Columns of the identity that widening multiplies by: 128 KiB, and few enough operations not to matter.
inline constexpr std::int64_t kWidenColumns = 256;

/// The weight as cuBLAS sees it is the column-major transpose of the row-major view.
template <Scalar T>
struct TallShape {
    explicit TallShape(DeviceView<const T> a)
        : transposed(a.rows() > a.cols()), m(std::max(a.rows(), a.cols())), n(std::min(a.rows(), a.cols())) {}
    bool transposed;  ///< the tall matrix is the row-major one itself; else its transpose
    std::int64_t m;
    std::int64_t n;
};

/// tall (m x n, column-major) := the weight in the compute type; `wide` holds as many entries, `identity`
/// kWidenColumns^2. Half types pass through `wide`.
template <Scalar T>
void widen_tall(Context& context, DeviceView<const T> a, compute_t<T>* tall, compute_t<T>* wide, T* identity,
                const std::string& name) {
    using C = compute_t<T>;
    const TallShape<T> shape(a);
    vendor::Operand source{a.data(), a.leading_dimension(), shape.transposed};
    if constexpr (!ComputeScalar<T>) {
        const std::int64_t step = std::min(kWidenColumns, a.rows());
        std::vector<T> ones(static_cast<std::size_t>(step * step));
        for (std::int64_t i = 0; i < step; ++i) ones[static_cast<std::size_t>(i * step + i)] = T(1.0F);
        upload(context, ones.data(), step * step, identity);
        for (std::int64_t i = 0; i < a.rows(); i += step) {
            const std::int64_t rows = std::min(step, a.rows() - i);
            vendor::gemm<T>(context.blas(), a.cols(), rows, rows, 1, {a.row(i), a.leading_dimension()},
                            {identity, step}, 0, wide + i * a.cols(), a.cols(), name);
        }
        source = {wide, a.cols(), shape.transposed};
    }
    vendor::copy_scaled<C>(context.blas(), shape.m, shape.n, 1, source, tall, shape.m, name);
}

/// x *= 2^exponent, in steps that are numbers of the type themselves.
template <ComputeScalar C>
void scale_by_power(Context& context, std::int64_t count, int exponent, C* x, const std::string& name) {
    constexpr int kStep = std::is_same_v<C, double> ? 1000 : 100;
    while (exponent != 0) {
        const int step = std::clamp(exponent, -kStep, kStep);
        vendor::scale(context.blas(), count, std::ldexp(C(1), step), x, name);
        exponent -= step;
    }
}

/// Scales x by a power of two so that its largest entry lies in [1/2, 1), which keeps squares in range, and returns the
/// exponent that undoes it; 0 with `zero` set if there is nothing to scale. Waits.
template <ComputeScalar C>
int normalise(Context& context, std::int64_t count, C* x, bool& zero, const std::string& name) {
    C largest = 0;
    download(context, x + vendor::largest(context.blas(), count, x, name), 1, &largest);
    zero = largest == 0;
    int exponent = 0;
    if (!zero) static_cast<void>(std::frexp(largest, &exponent));
    scale_by_power(context, count, -exponent, x, name);
    return exponent;
}

/// A weight on its way into a decomposition: `tall` holds it, `spare` as many entries for whoever comes next.
template <Scalar T>
class LoadedWeight {
public:
    using C = compute_t<T>;

    LoadedWeight(Scratch& scratch, DeviceView<const T> stored, const DecomposeOptions& options)
        : stored_(stored),
          shape_(stored),
          in_out_(options.layout == WeightLayout::in_out),
          name_(options.name),
          doing_("decomposing " + options.name + ", " + shape_string(d_in(), d_out())),
          tall_(scratch.add<C>(m() * n())),
          spare_(scratch.add<C>(m() * n())),
          probe_(scratch.add<T>(m())),
          wide_probe_(scratch.add<C>(m())),
          sums_(scratch.add<C>(m())),
          identity_(scratch.add<T>(ComputeScalar<T> ? 0 : kWidenColumns * kWidenColumns)) {}

    [[nodiscard]] std::int64_t m() const { return shape_.m; }
    [[nodiscard]] std::int64_t n() const { return shape_.n; }
    [[nodiscard]] std::int64_t d_in() const { return in_out_ ? stored_.rows() : stored_.cols(); }
    [[nodiscard]] std::int64_t d_out() const { return in_out_ ? stored_.cols() : stored_.rows(); }
    /// The longer side of the tall matrix is d_in.
    [[nodiscard]] bool long_is_left() const { return shape_.transposed == in_out_; }
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const std::string& doing() const { return doing_; }  ///< for messages
    [[nodiscard]] Slot<C> tall() const { return tall_; }
    [[nodiscard]] Slot<C> spare() const { return spare_; }
    [[nodiscard]] bool zero() const { return zero_; }
    [[nodiscard]] int exponent() const { return exponent_; }
    [[nodiscard]] double norm() const { return norm_; }  ///< ||tall||_F

    /// Reserves the scratch memory and fills `tall`, times 2^-exponent(). Throws ValueError for a non-finite entry.
    void load(Context& context, Scratch& scratch) {
        try {
            scratch.reserve(context);
        } catch (const DeviceError& error) {
            throw DeviceError(error.call(), error.status(), doing_ + ": " + error.what());
        }
        require_finite<T>(context, stored_, scratch.at(probe_), scratch.at(sums_), name_);
        widen_tall<T>(context, stored_, scratch.at(tall_), scratch.at(spare_), scratch.at(identity_), doing_);
        exponent_ = normalise(context, m() * n(), scratch.at(tall_), zero_, doing_);
        norm_ = static_cast<double>(vendor::norm(context.blas(), m() * n(), scratch.at(tall_), doing_));
    }

    /// Undoes the scaling: W2 and the singular values carry it. `largest` is the largest singular value as scaled.
    void unscale(Context& context, const Scratch& scratch, Factors<C, DeviceSpace>& factors, double largest) const {
        if (exponent_ == 0) return;
        for (C& s : factors.singular_values) s = std::ldexp(s, exponent_);
        scale_by_power(context, static_cast<std::int64_t>(factors.w2.size()), exponent_, factors.w2.data(), doing_);
        if (is_finite(static_cast<C>(std::ldexp(2 * largest, exponent_)))) return;  // no entry is above the value
        try {
            require_finite<C>(context, std::as_const(factors.w2).view(), scratch.at(wide_probe_), scratch.at(sums_),
                              name_);
        } catch (const ValueError&) {
            throw ValueError("the factors of " + name_ + " overflow its type: its entries are near the largest " +
                             "number; scale the weight down");
        }
    }

private:
    DeviceView<const T> stored_;
    TallShape<T> shape_;
    bool in_out_;
    std::string name_;
    std::string doing_;
    Slot<C> tall_;
    Slot<C> spare_;
    Slot<T> probe_;
    Slot<C> wide_probe_;
    Slot<C> sums_;
    Slot<T> identity_;
    bool zero_ = false;
    int exponent_ = 0;
    double norm_ = 0;
};

}  // namespace lowrank::cuda::detail
