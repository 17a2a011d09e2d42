// lowrank - reads safetensors files: the header checked once, the data mapped and read only where it is used.
// SPDX-License-Identifier: MIT
//
// Opening costs the header alone, whatever the file's size. A tensor's data may lie at any address, so it is copied
// into a Matrix, never viewed through a pointer of its type.
//
//     lowrank::SafetensorsReader file("model.safetensors");
//     for (const lowrank::TensorInfo& tensor : file.tensors()) use(tensor.name, file.bytes(tensor));
//     lowrank::Matrix<float> w = file.matrix<float>("model.layers.0.self_attn.q_proj.weight");
#pragma once

#include <lowrank/checkpoint/dtype.hpp>
#include <lowrank/checkpoint/mapped_file.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/safetensors_header.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace lowrank {

class SafetensorsReader {
public:
    /// Throws IoError if the file cannot be read, FormatError if its header is malformed (safetensors_header.hpp).
    explicit SafetensorsReader(std::filesystem::path path)
        : file_(std::move(path)), header_(parse_safetensors_header(file_.bytes(), file_.path())) {
        file_.release(0, static_cast<std::size_t>(header_.data_begin));
        by_name_.resize(header_.tensors.size());
        for (std::size_t i = 0; i < by_name_.size(); ++i) by_name_[i] = i;
        std::sort(by_name_.begin(), by_name_.end(),
                  [this](std::size_t a, std::size_t b) { return header_.tensors[a].name < header_.tensors[b].name; });
    }

    [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }
    [[nodiscard]] std::uint64_t file_bytes() const { return file_.size(); }
    /// In the order of their bytes.
    [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

    /// Null if there is none of that name. O(log tensors).
    [[nodiscard]] const TensorInfo* find(std::string_view name) const {
        const auto at = std::lower_bound(
            by_name_.begin(), by_name_.end(), name,
            [this](std::size_t i, std::string_view wanted) { return header_.tensors[i].name < wanted; });
        if (at == by_name_.end() || header_.tensors[*at].name != name) return nullptr;
        return &header_.tensors[*at];
    }

    /// Throws ValueError if there is none of that name.
    [[nodiscard]] const TensorInfo& tensor(std::string_view name) const {
        if (const TensorInfo* found = find(name)) return *found;
        throw ValueError(detail::path_text(path()) + ": there is no tensor " + detail::name_text(name));
    }

    /// The tensor's data in the mapped file; valid as long as this reader.
    [[nodiscard]] std::span<const std::byte> bytes(const TensorInfo& tensor) const {
        return file_.bytes().subspan(static_cast<std::size_t>(header_.data_begin + tensor.begin),
                                     static_cast<std::size_t>(tensor.bytes()));
    }

    /// Copies all elements, in row-major order, into `out`, converting between the Scalar types where they differ
    /// (rounding to nearest). Throws ValueError if the tensor is of another type, ShapeError if `out` has another size.
    template <Scalar T>
    void copy(const TensorInfo& tensor, std::span<T> out) const {
        if (out.size() != tensor.elements()) {
            throw ShapeError(describe(tensor) + " has " + std::to_string(tensor.elements()) +
                             " elements, its destination " + std::to_string(out.size()));
        }
        copy_part(tensor, 0, out);
    }

    /// The same of the elements from `first` on that `out` has room for.
    template <Scalar T>
    void copy_part(const TensorInfo& tensor, std::uint64_t first, std::span<T> out) const {
        if (first > tensor.elements() || out.size() > tensor.elements() - first) {
            throw ShapeError(describe(tensor) + " has " + std::to_string(tensor.elements()) +
                             " elements, too few for " + std::to_string(out.size()) + " from " + std::to_string(first) +
                             " on");
        }
        const bool known = visit_scalar(tensor.dtype, [&]<class From>(std::type_identity<From>) {
            const std::byte* from = bytes(tensor).data() + first * sizeof(From);
            if constexpr (std::is_same_v<From, T>) {
                if (!out.empty()) std::memcpy(out.data(), from, out.size_bytes());
            } else {
                for (std::size_t i = 0; i < out.size(); ++i) {
                    From value;
                    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
                    out[i] = static_cast<T>(static_cast<compute_t<From>>(value));
                }
            }
        });
        if (!known) {
            throw ValueError(describe(tensor) + " is of type " + detail::name_text(tensor.dtype) +
                             "; F32, F64, BF16 and F16 can be read as numbers");
        }
    }

    /// A copy of a tensor of two dimensions, converted to T where its type differs. Throws as `copy` does, and
    /// ShapeError for another number of dimensions.
    template <Scalar T>
    [[nodiscard]] Matrix<T> matrix(const TensorInfo& tensor) const {
        constexpr std::uint64_t kMax = std::uint64_t{1}
                                       << 62;  // a zero-size tensor may claim more rows than int64 holds
        if (tensor.shape.size() != 2 || tensor.shape[0] > kMax || tensor.shape[1] > kMax) {
            throw ShapeError(describe(tensor) + " of shape " + detail::shape_text(tensor.shape) + " is not a matrix");
        }
        Matrix<T> result(static_cast<std::int64_t>(tensor.shape[0]), static_cast<std::int64_t>(tensor.shape[1]));
        copy(tensor, std::span<T>(result.data(), result.size()));
        return result;
    }
    template <Scalar T>
    [[nodiscard]] Matrix<T> matrix(std::string_view name) const {
        return matrix<T>(tensor(name));
    }

    /// Hands the tensor's data to `take` in pieces of at most 8 MiB, each dropped from resident memory afterwards.
    template <class Take>
    void stream(const TensorInfo& tensor, Take&& take) const {
        file_.stream(bytes(tensor), std::forward<Take>(take));
    }

    /// Drops the tensor's pages from resident memory, or starts reading them ahead: see MappedFile.
    void release(const TensorInfo& tensor) const noexcept {
        file_.release(static_cast<std::size_t>(header_.data_begin + tensor.begin),
                      static_cast<std::size_t>(tensor.bytes()));
    }
    void prefetch(const TensorInfo& tensor) const noexcept {
        file_.prefetch(static_cast<std::size_t>(header_.data_begin + tensor.begin),
                       static_cast<std::size_t>(tensor.bytes()));
    }

private:
    [[nodiscard]] std::string describe(const TensorInfo& tensor) const {
        return detail::path_text(path()) + ": tensor " + detail::name_text(tensor.name);
    }

    MappedFile file_;
    SafetensorsHeader header_;
    std::vector<std::size_t> by_name_;
};

}  // namespace lowrank
