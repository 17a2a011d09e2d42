// lowrank - matrices: a view that borrows memory and an owner that holds it, both row-major.
// SPDX-License-Identifier: MIT
//
// Element (i, j) lies at `data()[i * leading_dimension() + j]`, leading_dimension() >= cols(). A column-major
// matrix, or W^T as a checkpoint stores it, is the row-major view of its transpose: see WeightLayout.
// The memory space is part of the type: a view of host memory does not convert to one of device memory.
//
//     std::vector<float> w(d_out * d_in);
//     lowrank::MatrixView<const float> view(w.data(), d_out, d_in);
//     lowrank::Matrix<float> y(16, 2560);       // owns, zero-initialised, 64-byte aligned
#pragma once

#include <lowrank/aligned_memory.hpp>
#include <lowrank/error.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace lowrank {

/// Memory that the CPU addresses directly.
struct HostSpace {};

/// How a weight lies in memory. `in_out` is W itself, d_in x d_out row-major; `out_in` is W^T, d_out x d_in
/// row-major, as PyTorch's nn.Linear, safetensors and GGUF store it.
enum class WeightLayout { in_out, out_in };

/// "2560 x 6912", for messages.
inline std::string shape_string(std::int64_t rows, std::int64_t cols) {
    return std::to_string(rows) + " x " + std::to_string(cols);
}

/// A borrowed matrix of `rows` x `cols` elements. Copying it copies the pointer. T may be const.
template <class T, class Space = HostSpace>
class MatrixView {
public:
    constexpr MatrixView() = default;

    constexpr MatrixView(T* data, std::int64_t rows, std::int64_t cols) : MatrixView(data, rows, cols, cols) {}

    /// Throws ShapeError for a negative size, a leading dimension below `cols`, a null pointer to a non-empty
    /// matrix, or an extent that no address space holds.
    constexpr MatrixView(T* data, std::int64_t rows, std::int64_t cols, std::int64_t leading_dimension)
        : data_(data), rows_(rows), cols_(cols), leading_dimension_(leading_dimension) {
        check();
    }

    /// A view of mutable elements serves as one of const elements.
    template <class U>
    requires std::is_same_v<const U, T> &&
        (!std::is_const_v<U>)constexpr MatrixView(MatrixView<U, Space> other)  // NOLINT(google-explicit-constructor)
        : data_(other.data()),
          rows_(other.rows()),
          cols_(other.cols()),
          leading_dimension_(other.leading_dimension()) {}

    [[nodiscard]] constexpr T* data() const { return data_; }
    [[nodiscard]] constexpr std::int64_t rows() const { return rows_; }
    [[nodiscard]] constexpr std::int64_t cols() const { return cols_; }
    [[nodiscard]] constexpr std::int64_t leading_dimension() const { return leading_dimension_; }
    [[nodiscard]] constexpr bool empty() const { return rows_ == 0 || cols_ == 0; }
    [[nodiscard]] constexpr T* row(std::int64_t i) const { return data_ + i * leading_dimension_; }
    [[nodiscard]] constexpr T& operator()(std::int64_t i, std::int64_t j) const {
        return data_[i * leading_dimension_ + j];
    }

    /// The `rows` x `cols` part whose first element is (i, j). Throws ShapeError if it reaches outside.
    [[nodiscard]] constexpr MatrixView block(std::int64_t i, std::int64_t j, std::int64_t rows,
                                             std::int64_t cols) const {
        if (i < 0 || j < 0 || rows < 0 || cols < 0 || i > rows_ - rows || j > cols_ - cols) {
            throw ShapeError("a block of " + shape_string(rows, cols) + " at (" + std::to_string(i) + ", " +
                             std::to_string(j) + ") lies outside a matrix of " + shape_string(rows_, cols_));
        }
        if (rows == 0 || cols == 0) return {nullptr, rows, cols, leading_dimension_};
        return {data_ + i * leading_dimension_ + j, rows, cols, leading_dimension_};
    }

private:
    constexpr void check() const {
        if (rows_ < 0 || cols_ < 0) throw ShapeError("a matrix cannot be " + shape_string(rows_, cols_));
        if (leading_dimension_ < cols_) {
            throw ShapeError("a leading dimension of " + std::to_string(leading_dimension_) +
                             " is below the number of columns of a " + shape_string(rows_, cols_) + " matrix");
        }
        if (empty()) return;
        if (data_ == nullptr)
            throw ShapeError("a null pointer cannot hold a " + shape_string(rows_, cols_) + " matrix");
        constexpr auto kMax = std::numeric_limits<std::ptrdiff_t>::max() / static_cast<std::ptrdiff_t>(sizeof(T));
        if (leading_dimension_ > kMax / rows_) {
            throw ShapeError("a matrix of " + shape_string(rows_, leading_dimension_) + " does not fit in memory");
        }
    }

    T* data_ = nullptr;
    std::int64_t rows_ = 0;
    std::int64_t cols_ = 0;
    std::int64_t leading_dimension_ = 0;
};

template <class T, class Space = HostSpace>
class Matrix;

/// An owning host matrix: contiguous (leading dimension = cols), aligned to a cache line, zero-initialised.
template <class T>
class Matrix<T, HostSpace> {
public:
    Matrix() = default;

    /// Throws ShapeError for a negative or unaddressable size, std::bad_alloc if there is no memory.
    Matrix(std::int64_t rows, std::int64_t cols) : rows_(rows), cols_(cols), data_(allocate(rows, cols)) {
        std::uninitialized_value_construct_n(data_.get(), size());
    }

    /// The same with indeterminate entries, for results that are written whole.
    static Matrix uninitialized(std::int64_t rows, std::int64_t cols) {
        Matrix matrix;
        matrix.data_ = allocate(rows, cols);
        matrix.rows_ = rows;
        matrix.cols_ = cols;
        return matrix;
    }

    Matrix(const Matrix& other) : Matrix(uninitialized(other.rows_, other.cols_)) {
        std::copy_n(other.data(), other.size(), data());
    }
    Matrix(Matrix&& other) noexcept
        : rows_(std::exchange(other.rows_, 0)), cols_(std::exchange(other.cols_, 0)), data_(std::move(other.data_)) {}
    Matrix& operator=(Matrix other) noexcept {
        std::swap(rows_, other.rows_);
        std::swap(cols_, other.cols_);
        data_.swap(other.data_);
        return *this;
    }
    ~Matrix() = default;

    [[nodiscard]] std::int64_t rows() const { return rows_; }
    [[nodiscard]] std::int64_t cols() const { return cols_; }
    [[nodiscard]] std::int64_t leading_dimension() const { return cols_; }
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(rows_) * static_cast<std::size_t>(cols_); }
    [[nodiscard]] T* data() { return data_.get(); }
    [[nodiscard]] const T* data() const { return data_.get(); }
    [[nodiscard]] T* row(std::int64_t i) { return data() + i * cols_; }
    [[nodiscard]] const T* row(std::int64_t i) const { return data() + i * cols_; }
    [[nodiscard]] T& operator()(std::int64_t i, std::int64_t j) { return data()[i * cols_ + j]; }
    [[nodiscard]] const T& operator()(std::int64_t i, std::int64_t j) const { return data()[i * cols_ + j]; }

    [[nodiscard]] MatrixView<T> view() { return {data(), rows_, cols_}; }
    [[nodiscard]] MatrixView<const T> view() const { return {data(), rows_, cols_}; }
    operator MatrixView<T>() { return view(); }              // NOLINT(google-explicit-constructor)
    operator MatrixView<const T>() const { return view(); }  // NOLINT(google-explicit-constructor)

private:
    using Data = detail::AlignedArray<T>;

    static Data allocate(std::int64_t rows, std::int64_t cols) {
        constexpr auto kMax = std::numeric_limits<std::ptrdiff_t>::max() / static_cast<std::ptrdiff_t>(sizeof(T));
        if (rows < 0 || cols < 0 || (cols > 0 && rows > kMax / cols)) {
            throw ShapeError("cannot allocate a matrix of " + shape_string(rows, cols));
        }
        const auto count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
        if (count == 0) return nullptr;
        return detail::allocate_aligned<T>(count);
    }

    std::int64_t rows_ = 0;
    std::int64_t cols_ = 0;
    Data data_;
};

/// Read-only view of any matrix of this library. An engine makes its own type usable as a weight by declaring a
/// `const_view` of it in that type's namespace.
template <class T, class Space>
MatrixView<const std::remove_const_t<T>, Space> const_view(MatrixView<T, Space> view) {
    return view;
}
template <class T, class Space>
MatrixView<const T, Space> const_view(const Matrix<T, Space>& matrix) {
    return matrix.view();
}

/// The element type of what `const_view` makes of M.
template <class M>
using element_t = std::remove_const_t<std::remove_pointer_t<decltype(const_view(std::declval<const M&>()).data())>>;

/// A type that `const_view` turns into a view of memory in `Space`, with elements of a Scalar type.
template <class M, class Space>
concept MatrixIn = requires(const M& m) {
    { const_view(m) } -> std::convertible_to<MatrixView<const element_t<M>, Space>>;
}
&&Scalar<element_t<M>>;

}  // namespace lowrank
