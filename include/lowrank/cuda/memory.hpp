// lowrank - matrices in device and in page-locked host memory, and the copies between the three memory spaces.
// SPDX-License-Identifier: MIT
//
// The space is part of the type: what works on a MatrixView<T, cuda::DeviceSpace> does not take host memory.
// Page-locked memory is host memory that the device copies without a detour; the CPU reaches it by `host()`.
//
//     lowrank::Matrix<float, lowrank::cuda::DeviceSpace> w = lowrank::cuda::to_device(gpu, host_w);
//     lowrank::Matrix<float> back = lowrank::cuda::to_host(gpu, w);      // waits
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/spaces.hpp>
#include <lowrank/cuda/vendor/runtime.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace lowrank::cuda {

/// Queues a copy between any two spaces on the context's stream. Memory that is not page-locked may be read or written
/// until the stream has been waited for: leave it as it is until then. Throws ShapeError if the shapes differ.
template <class T, class To, class From>
void copy(Context& context, MatrixView<const T, From> from, MatrixView<T, To> to) {
    if (from.rows() != to.rows() || from.cols() != to.cols()) {
        throw ShapeError("a matrix of " + shape_string(from.rows(), from.cols()) + " cannot be copied to one of " +
                         shape_string(to.rows(), to.cols()));
    }
    const auto bytes = [](std::int64_t elements) { return static_cast<std::size_t>(elements) * sizeof(T); };
    vendor::copy(to.data(), bytes(to.leading_dimension()), from.data(), bytes(from.leading_dimension()),
                 bytes(from.cols()), static_cast<std::size_t>(from.rows()), context.stream(), "copying a matrix");
}

/// A copy in device memory. From page-locked memory it is only queued; from other host memory it waits for the copy, so
/// that the source may be changed at once.
template <class T, class Space>
Matrix<std::remove_const_t<T>, DeviceSpace> to_device(Context& context, MatrixView<T, Space> source) {
    Matrix<std::remove_const_t<T>, DeviceSpace> target(source.rows(), source.cols());
    const detail::SettleOnError settle(context);
    copy<std::remove_const_t<T>>(context, const_view(source), target.view());
    if constexpr (std::is_same_v<Space, HostSpace>) context.synchronise("copying a matrix to the device");
    return target;
}
template <class T, class Space>
Matrix<T, DeviceSpace> to_device(Context& context, const Matrix<T, Space>& source) {
    return to_device(context, source.view());
}

/// A copy in host memory. Waits for the stream.
template <class T>
Matrix<std::remove_const_t<T>> to_host(Context& context, MatrixView<T, DeviceSpace> source) {
    Matrix<std::remove_const_t<T>> target(source.rows(), source.cols());
    const detail::SettleOnError settle(context);
    copy<std::remove_const_t<T>>(context, const_view(source), target.view());
    context.synchronise("copying a matrix to the host");
    return target;
}
template <class T>
Matrix<T> to_host(Context& context, const Matrix<T, DeviceSpace>& source) {
    return to_host(context, source.view());
}

/// Factors move with all that is known of them.
template <ComputeScalar T>
Factors<T, DeviceSpace> to_device(Context& context, const Factors<T>& factors) {
    return {.w1 = to_device(context, factors.w1),
            .w2 = to_device(context, factors.w2),
            .singular_values = factors.singular_values,
            .relative_error = factors.relative_error,
            .excess = factors.excess,
            .method = factors.method};
}
template <ComputeScalar T>
Factors<T> to_host(Context& context, const Factors<T, DeviceSpace>& factors) {
    return {.w1 = to_host(context, factors.w1),
            .w2 = to_host(context, factors.w2),
            .singular_values = factors.singular_values,
            .relative_error = factors.relative_error,
            .excess = factors.excess,
            .method = factors.method};
}

}  // namespace lowrank::cuda
