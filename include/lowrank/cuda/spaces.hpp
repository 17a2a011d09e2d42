// lowrank - device and page-locked memory as spaces of Matrix.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/vendor/runtime.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

namespace lowrank {

namespace cuda {

/// Memory of the GPU.
struct DeviceSpace {};

/// Page-locked memory of the host.
struct PinnedSpace {};

namespace detail {

/// The bytes of a matrix. Throws ShapeError for a negative or unaddressable size.
template <class T>
std::size_t matrix_bytes(std::int64_t rows, std::int64_t cols) {
    constexpr auto kMax = std::numeric_limits<std::ptrdiff_t>::max() / static_cast<std::ptrdiff_t>(sizeof(T));
    if (rows < 0 || cols < 0 || (cols > 0 && rows > kMax / cols)) {
        throw ShapeError("cannot allocate a matrix of " + shape_string(rows, cols));
    }
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols) * sizeof(T);
}

/// What both kinds of owner share: contiguous, not initialised, moved and never copied by accident.
template <class T, class Space, class Free>
class OwnedMatrix {
public:
    OwnedMatrix() = default;
    OwnedMatrix(OwnedMatrix&& other) noexcept
        : rows_(std::exchange(other.rows_, 0)), cols_(std::exchange(other.cols_, 0)), data_(std::move(other.data_)) {}
    OwnedMatrix& operator=(OwnedMatrix&& other) noexcept {
        std::swap(rows_, other.rows_);
        std::swap(cols_, other.cols_);
        data_.swap(other.data_);
        return *this;
    }
    ~OwnedMatrix() = default;

    [[nodiscard]] std::int64_t rows() const { return rows_; }
    [[nodiscard]] std::int64_t cols() const { return cols_; }
    [[nodiscard]] std::int64_t leading_dimension() const { return cols_; }
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(rows_) * static_cast<std::size_t>(cols_); }
    [[nodiscard]] std::size_t bytes() const { return size() * sizeof(T); }
    [[nodiscard]] T* data() { return data_.get(); }
    [[nodiscard]] const T* data() const { return data_.get(); }
    [[nodiscard]] MatrixView<T, Space> view() { return {data(), rows_, cols_}; }
    [[nodiscard]] MatrixView<const T, Space> view() const { return {data(), rows_, cols_}; }
    operator MatrixView<T, Space>() { return view(); }              // NOLINT(google-explicit-constructor)
    operator MatrixView<const T, Space>() const { return view(); }  // NOLINT(google-explicit-constructor)

protected:
    OwnedMatrix(std::int64_t rows, std::int64_t cols, void* memory)
        : rows_(rows), cols_(cols), data_(static_cast<T*>(memory)) {}

private:
    std::int64_t rows_ = 0;
    std::int64_t cols_ = 0;
    std::unique_ptr<T, Free> data_;
};

}  // namespace detail
}  // namespace cuda

/// An owning matrix in memory of the current device. Giving it back waits for the device.
template <class T>
class Matrix<T, cuda::DeviceSpace> : public cuda::detail::OwnedMatrix<T, cuda::DeviceSpace, cuda::vendor::DeviceFree> {
    using Base = cuda::detail::OwnedMatrix<T, cuda::DeviceSpace, cuda::vendor::DeviceFree>;

public:
    Matrix() = default;
    /// Throws ShapeError for an impossible size, cuda::DeviceError if the device has no memory for it.
    Matrix(std::int64_t rows, std::int64_t cols)
        : Base(rows, cols,
               cuda::vendor::allocate(cuda::detail::matrix_bytes<T>(rows, cols),
                                      "a matrix of " + shape_string(rows, cols))) {}
};

/// An owning matrix in page-locked host memory.
template <class T>
class Matrix<T, cuda::PinnedSpace> : public cuda::detail::OwnedMatrix<T, cuda::PinnedSpace, cuda::vendor::PinnedFree> {
    using Base = cuda::detail::OwnedMatrix<T, cuda::PinnedSpace, cuda::vendor::PinnedFree>;

public:
    Matrix() = default;
    /// Throws ShapeError for an impossible size, cuda::DeviceError if it cannot be page-locked.
    Matrix(std::int64_t rows, std::int64_t cols)
        : Base(rows, cols, cuda::vendor::allocate_pinned(cuda::detail::matrix_bytes<T>(rows, cols))) {}

    /// The same memory as the CPU sees it.
    [[nodiscard]] MatrixView<T> host() { return {this->data(), this->rows(), this->cols()}; }
    [[nodiscard]] MatrixView<const T> host() const { return {this->data(), this->rows(), this->cols()}; }
};

namespace cuda {

/// Device scratch memory that grows to what is asked of it and is then reused; one per stream.
class Workspace {
public:
    Workspace() = default;
    explicit Workspace(std::size_t bytes) { static_cast<void>(reserve(bytes)); }

    /// At least `bytes` bytes, at a multiple of 256. Allocates, and waits for the device, only if it has to grow.
    MatrixView<std::byte, DeviceSpace> reserve(std::size_t bytes) {
        if (memory_.bytes() < bytes) {
            memory_ = {};  // give the old memory back before asking for more
            memory_ = Matrix<std::byte, DeviceSpace>(1, static_cast<std::int64_t>(bytes));
        }
        return memory_.view();
    }
    [[nodiscard]] std::size_t size() const { return memory_.bytes(); }

private:
    Matrix<std::byte, DeviceSpace> memory_;
};

}  // namespace cuda
}  // namespace lowrank
