// lowrank - device scratch memory of one decomposition: laid out first, then reserved in one piece.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/memory.hpp>
#include <lowrank/cuda/spaces.hpp>
#include <lowrank/cuda/vendor/blas_lt.hpp>

#include <cstddef>
#include <cstdint>

namespace lowrank::cuda::detail {

/// The place of an array in the scratch memory.
template <class T>
struct Slot {
    std::size_t offset = 0;
};

/// Collects what is needed; then reserves it from the context, which keeps it for the next decomposition.
class Scratch {
public:
    template <class T>
    Slot<T> add(std::int64_t count) {
        const Slot<T> slot{bytes_};
        constexpr std::size_t kStep = vendor::kWorkspaceAlignment;
        bytes_ += (matrix_bytes<T>(1, count) + kStep - 1) / kStep * kStep;
        return slot;
    }
    /// Throws DeviceError that names the bytes if the device has no memory for it.
    void reserve(Context& context) { base_ = context.scratch().reserve(bytes_).data(); }

    template <class T>
    [[nodiscard]] T* at(Slot<T> slot) const {
        return reinterpret_cast<T*>(base_ + slot.offset);
    }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
    std::size_t bytes_ = 0;
    std::byte* base_ = nullptr;
};

/// Copies to the device, waiting so that `source` need not outlive the call.
template <class T>
void upload(Context& context, const T* source, std::int64_t count, T* target) {
    const SettleOnError settle(context);
    copy(context, MatrixView<const T>(source, 1, count), MatrixView<T, DeviceSpace>(target, 1, count));
    context.synchronise("copying to the device");
}
/// Copies to the host and waits.
template <class T>
void download(Context& context, const T* source, std::int64_t count, T* target) {
    const SettleOnError settle(context);
    copy(context, MatrixView<const T, DeviceSpace>(source, 1, count), MatrixView<T>(target, 1, count));
    context.synchronise("copying to the host");
}

}  // namespace lowrank::cuda::detail
