// lowrank - LowRankLinear on the GPU: Y = (X W1) W2 + b by two planned products of cuBLASLt.
// SPDX-License-Identifier: MIT
//
// cuBLASLt is column-major, so it computes Y^T = W2^T (W1^T X^T): the row-major X and Y are their transposes as they
// lie, and the bias runs along the rows of Y^T, where the epilogue adds it. The factors are kept as checkpoints have
// them, W1^T (r x d_in) and W2^T (d_out x r) row-major: both operands of a product then run along the summation, which
// is the form that tensor-core kernels are tuned for. The intermediate X W1 is stored in T.
//
// Products are planned once for each bucket of row counts (1, 2, 4, 8, ...) and context. After prepare(), forward()
// allocates nothing, waits for nothing and searches for nothing, and can be captured into a CUDA graph. A layer may be
// shared by threads, each with its own context and workspace.
//
//     lowrank::cuda::LowRankLinear<lowrank::bf16> q_proj(gpu, factors, bias);
//     q_proj.prepare(gpu, 2048);
//     q_proj.forward(gpu, X, Y, workspace);
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/spaces.hpp>
#include <lowrank/cuda/vendor/blas_lt.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/low_rank_linear.hpp>
#include <lowrank/matrix.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>

namespace lowrank {

template <Scalar T>
class LowRankLinear<T, cuda::DeviceSpace> {
public:
    using Compute = compute_t<T>;
    template <class U>
    using View = MatrixView<U, cuda::DeviceSpace>;

    /// From factors of either memory space; their entries are rounded to T. `bias` lies in host memory and has d_out
    /// entries, or none for no bias. Throws ShapeError if the sizes do not fit, cuda::DeviceError without memory.
    template <ComputeScalar C, ScalarRange Bias = std::span<const T>>
    LowRankLinear(cuda::Context& context, const Factors<C>& factors, const Bias& bias = {})
        : LowRankLinear(context, rounded(factors.w1).view(), rounded(factors.w2).view(), WeightLayout::in_out, bias) {}
    template <ComputeScalar C, ScalarRange Bias = std::span<const T>>
    LowRankLinear(cuda::Context& context, const Factors<C, cuda::DeviceSpace>& factors, const Bias& bias = {})
        : LowRankLinear(context, rounded(cuda::to_host(context, factors.w1)).view(),
                        rounded(cuda::to_host(context, factors.w2)).view(), WeightLayout::in_out, bias) {}

    /// From stored factors in host memory: W1 (d_in x r) and W2 (r x d_out), or with WeightLayout::out_in their
    /// transposes, r x d_in and d_out x r.
    template <ScalarRange Bias = std::span<const T>>
    LowRankLinear(cuda::Context& context, MatrixView<const T> w1, MatrixView<const T> w2, WeightLayout layout,
                  const Bias& bias = {})
        : w1_(context, w1, layout), w2_(context, w2, layout) {
        if (w1_.cols != w2_.rows) {
            throw ShapeError("the factors do not fit together: W1 is " + shape_string(w1_.rows, w1_.cols) + ", W2 is " +
                             shape_string(w2_.rows, w2_.cols) + "; d_in x r and r x d_out are needed");
        }
        const auto count = static_cast<std::int64_t>(std::size(bias));
        if (count != 0 && count != d_out()) {
            throw ShapeError("a bias of " + std::to_string(count) +
                             " entries does not fit d_out = " + std::to_string(d_out()));
        }
        bias_ = bias_as<T>(context, bias);
        if constexpr (!ComputeScalar<T>) wide_bias_ = bias_as<Compute>(context, bias);
        name_ = "forward() of a layer of " + shape_string(d_in(), d_out()) + ", rank " + std::to_string(rank());
    }

    /// Straight from a weight: decompose(context, weight, options), then as above. Needs <lowrank/decompose.hpp>.
    template <class Weight, ScalarRange Bias = std::span<const T>>
    requires Scalar<element_t<Weight>> LowRankLinear(cuda::Context& context, const Weight& weight,
                                                     const DecomposeOptions& options, const Bias& bias = {})
        : LowRankLinear(context, decompose(context, weight, options), bias) {}

    [[nodiscard]] std::int64_t d_in() const { return w1_.rows; }
    [[nodiscard]] std::int64_t d_out() const { return w2_.cols; }
    [[nodiscard]] std::int64_t rank() const { return w1_.cols; }
    [[nodiscard]] std::int64_t parameters() const {
        return low_rank_parameters(d_in(), d_out(), rank()) + bias_.cols();
    }
    /// Bytes that the factors occupy on the device, padding included.
    [[nodiscard]] std::size_t weight_bytes() const { return w1_.values.bytes() + w2_.values.bytes(); }

    /// The factors as stored in T, bit for bit, and the bias as it is added to a result in T; empty without one.
    [[nodiscard]] Matrix<T> w1(cuda::Context& context) const { return w1_.unpack(context); }
    [[nodiscard]] Matrix<T> w2(cuda::Context& context) const { return w2_.unpack(context); }
    [[nodiscard]] View<const T> bias() const { return bias_.view(); }
    /// What the products read: W1^T and W2^T on the device, rows padded with zeros to a multiple of 16 bytes.
    [[nodiscard]] View<const T> w1_transposed() const { return w1_.view(); }
    [[nodiscard]] View<const T> w2_transposed() const { return w2_.view(); }

    /// Bytes of device workspace that forward() needs for up to `rows` rows in this context.
    [[nodiscard]] std::size_t workspace_bytes(const cuda::Context& context, std::int64_t rows) const {
        return context.matmul_workspace_bytes() + intermediate_bytes(rows);
    }

    /// Plans the products of up to `rows` rows, in every bucket, for contiguous X and Y in T.
    void prepare(cuda::Context& context, std::int64_t rows) const {
        for (std::int64_t bucket = 1; bucket < 2 * rows; bucket *= 2) {
            static_cast<void>(context.plan(first_product(bucket, contiguous_aligned(d_in())), name_));
            static_cast<void>(context.plan(second_product<T>(bucket, contiguous_aligned(d_out())), name_));
        }
    }

    /// Queues Y = (X W1) W2 + b, in T. Any number of rows, also 0; X and Y may be strided and must not overlap.
    /// `workspace` starts at a multiple of 256 bytes, as cudaMalloc's memory does, and is in use until the stream has
    /// come this far. Throws ShapeError if a size does not fit, DeviceError if a launch fails.
    void forward(cuda::Context& context, View<const T> x, View<T> y, View<std::byte> workspace) const {
        run(context, x, y, workspace);
    }
    /// The same with the result in float, for bf16 and f16.
    void forward(cuda::Context& context, View<const T> x, View<Compute> y, View<std::byte> workspace) const
        requires(!ComputeScalar<T>) {
        run(context, x, y, workspace);
    }
    /// The same with a workspace that grows when it has to.
    void forward(cuda::Context& context, View<const T> x, View<T> y, cuda::Workspace& workspace) const {
        run(context, x, y, workspace.reserve(workspace_bytes(context, x.rows())));
    }
    void forward(cuda::Context& context, View<const T> x, View<Compute> y, cuda::Workspace& workspace) const
        requires(!ComputeScalar<T>) {
        run(context, x, y, workspace.reserve(workspace_bytes(context, x.rows())));
    }
    /// For trying things out: allocates the result and the workspace, and waits.
    [[nodiscard]] Matrix<T, cuda::DeviceSpace> forward(cuda::Context& context, View<const T> x) const {
        Matrix<T, cuda::DeviceSpace> y(x.rows(), d_out());
        cuda::Workspace workspace;
        forward(context, x, y.view(), workspace);
        context.synchronise(name_);
        return y;
    }

private:
    /// Leading dimensions are padded to 16 bytes, which the widest loads want.
    static constexpr std::int64_t kStep = 16 / static_cast<std::int64_t>(sizeof(T));
    static std::int64_t padded(std::int64_t size) { return (size + kStep - 1) / kStep * kStep; }

    /// A factor, rows x cols, kept as its transpose.
    struct Weight {
        Weight(cuda::Context& context, MatrixView<const T> stored, WeightLayout layout)
            : rows(layout == WeightLayout::in_out ? stored.rows() : stored.cols()),
              cols(layout == WeightLayout::in_out ? stored.cols() : stored.rows()) {
            Matrix<T> host(cols, padded(rows));
            for (std::int64_t j = 0; j < cols; ++j) {
                for (std::int64_t i = 0; i < rows; ++i) {
                    host(j, i) = layout == WeightLayout::in_out ? stored(i, j) : stored(j, i);
                }
            }
            values = cuda::to_device(context, host);
        }
        [[nodiscard]] View<const T> view() const { return values.view().block(0, 0, cols, rows); }
        [[nodiscard]] Matrix<T> unpack(cuda::Context& context) const {
            const Matrix<T> host = cuda::to_host(context, values);
            Matrix<T> result(rows, cols);
            for (std::int64_t i = 0; i < rows; ++i) {
                for (std::int64_t j = 0; j < cols; ++j) result(i, j) = host(j, i);
            }
            return result;
        }

        std::int64_t rows = 0;
        std::int64_t cols = 0;
        Matrix<T, cuda::DeviceSpace> values;
    };

    template <ComputeScalar C>
    static Matrix<T> rounded(const Matrix<C>& source) {
        Matrix<T> target(source.rows(), source.cols());
        for (std::int64_t i = 0; i < source.rows(); ++i) {
            for (std::int64_t j = 0; j < source.cols(); ++j) target(i, j) = static_cast<T>(source(i, j));
        }
        return target;
    }

    template <class Out, class Bias>
    static Matrix<Out, cuda::DeviceSpace> bias_as(cuda::Context& context, const Bias& bias) {
        Matrix<Out> host(1, static_cast<std::int64_t>(std::size(bias)));
        std::int64_t j = 0;
        for (const auto& entry : bias) host(0, j++) = static_cast<Out>(static_cast<Compute>(entry));
        return cuda::to_device(context, host);
    }

    [[nodiscard]] std::size_t intermediate_bytes(std::int64_t rows) const {
        return static_cast<std::size_t>(rows * padded(rank())) * sizeof(T);
    }

    static bool contiguous_aligned(std::int64_t cols) { return cols % kStep == 0; }
    template <class U>
    static bool aligned(View<U> view) {
        return reinterpret_cast<std::uintptr_t>(view.data()) % 16 == 0 &&
               view.leading_dimension() * static_cast<std::int64_t>(sizeof(U)) % 16 == 0;
    }

    [[nodiscard]] cuda::vendor::ProductKey first_product(std::int64_t bucket, bool aligned) const {
        constexpr auto kType = cuda::vendor::data_type<T>();
        return {.m = rank(), .n = bucket, .k = d_in(), .in = kType, .out = kType, .bias = false, .aligned = aligned};
    }
    template <class Out>
    [[nodiscard]] cuda::vendor::ProductKey second_product(std::int64_t bucket, bool aligned) const {
        return {.m = d_out(),
                .n = bucket,
                .k = rank(),
                .in = cuda::vendor::data_type<T>(),
                .out = cuda::vendor::data_type<Out>(),
                .bias = !bias_.view().empty(),
                .aligned = aligned};
    }

    template <class Out>
    void run(cuda::Context& context, View<const T> x, View<Out> y, View<std::byte> workspace) const {
        if (x.cols() != d_in() || y.cols() != d_out() || x.rows() != y.rows()) {
            throw ShapeError("a layer of " + shape_string(d_in(), d_out()) + " cannot map X, " +
                             shape_string(x.rows(), x.cols()) + ", to Y, " + shape_string(y.rows(), y.cols()));
        }
        if (y.empty()) return;
        const std::size_t needed = workspace_bytes(context, x.rows());
        if (static_cast<std::size_t>(workspace.cols()) < needed ||
            reinterpret_cast<std::uintptr_t>(workspace.data()) % cuda::vendor::kWorkspaceAlignment != 0) {
            throw ShapeError("a workspace of " + std::to_string(workspace.cols()) +
                             " bytes does not do: forward() of " + std::to_string(x.rows()) + " rows needs " +
                             std::to_string(needed) + " bytes from a multiple of 256 on");
        }
        void* scratch = workspace.data();
        std::byte* middle = workspace.data() + context.matmul_workspace_bytes();
        const std::int64_t ld = padded(rank());
        const auto bucket = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(x.rows())));
        // Both plans first: if one cannot be made, nothing is queued.
        auto& first = context.plan(first_product(bucket, aligned(x)), name_);
        auto& second = context.plan(second_product<Out>(bucket, aligned(y)), name_);
        first.run(context.blas_lt(), x.rows(),
                  {.a = w1_.values.data(),
                   .lda = w1_.values.leading_dimension(),
                   .b = x.data(),
                   .ldb = x.leading_dimension(),
                   .d = middle,
                   .ldd = ld},
                  scratch, context.stream(), name_);
        second.run(context.blas_lt(), x.rows(),
                   {.a = w2_.values.data(),
                    .lda = w2_.values.leading_dimension(),
                    .b = middle,
                    .ldb = ld,
                    .d = y.data(),
                    .ldd = y.leading_dimension(),
                    .bias = bias_for<Out>()},
                   scratch, context.stream(), name_);
    }

    template <class Out>
    [[nodiscard]] const void* bias_for() const {
        if constexpr (std::is_same_v<Out, T>) {
            return bias_.data();
        } else {
            return wide_bias_.data();
        }
    }

    Weight w1_;
    Weight w2_;
    Matrix<T, cuda::DeviceSpace> bias_;             // 1 x d_out, or empty
    Matrix<Compute, cuda::DeviceSpace> wide_bias_;  // the same for a result in float
    std::string name_;                              // for messages
};

namespace cuda {
template <Scalar T>
using LowRankLinear = lowrank::LowRankLinear<T, DeviceSpace>;
}  // namespace cuda

}  // namespace lowrank
