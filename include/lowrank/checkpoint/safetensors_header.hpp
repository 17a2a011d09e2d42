// lowrank - the header of a safetensors file, parsed and proven consistent with the file's size.
// SPDX-License-Identifier: MIT
//
// A file is 8 bytes (little-endian header length n), n bytes of JSON, then the data:
//     {"__metadata__": {"format": "pt"}, "w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
// What `parse_safetensors_header` returns can be used without further checks: names are unique, the tensors' bytes
// follow each other without gap from the first byte of the data to the file's last, and no shape overflows.
// Anything else is refused with one FormatError, "'FILE': tensor 'NAME': KIND: what and the numbers", where KIND is
// header length, header format, duplicate, field, offsets, overflow, size or limit.
// Accepted: keys in any order, unknown fields, unknown types, scalars, sizes of 0, white space after the JSON.
#pragma once

#include <lowrank/checkpoint/dtype.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/error.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace lowrank {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and used as it is");

/// One tensor of a file. `begin` and `end` count bytes from the start of the data.
struct TensorInfo {
    std::string name;
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    [[nodiscard]] std::uint64_t bytes() const { return end - begin; }
    [[nodiscard]] std::uint64_t elements() const {
        std::uint64_t product = 1;
        for (const std::uint64_t size : shape) product *= size;
        return product;
    }
};

struct SafetensorsHeader {
    std::vector<TensorInfo> tensors;              ///< in the order of their bytes
    std::map<std::string, std::string> metadata;  ///< `__metadata__`
    std::uint64_t data_begin = 0;                 ///< first byte of the data, from the start of the file
};

/// What a header may at most contain. The first is the format's own limit; the others are far above any model that
/// exists (PyTorch stops at 64 dimensions) and keep a hostile file from costing memory or stack.
struct SafetensorsLimits {
    static constexpr std::uint64_t kHeaderBytes = 100'000'000;
    static constexpr std::size_t kTensors = 1'000'000;
    static constexpr std::size_t kDimensions = 64;
    static constexpr std::size_t kDepth = 64;
};

namespace detail {

inline constexpr std::string_view kMetadataKey = "__metadata__";

/// First pass over the JSON: is it JSON at all, and how deep.
class SafetensorsSyntax {
public:
    explicit SafetensorsSyntax(const std::filesystem::path& file) : file_(file) {}

    bool null() { return true; }
    bool boolean(bool /*value*/) { return true; }
    bool number_integer(std::int64_t /*value*/) { return true; }
    bool number_unsigned(std::uint64_t /*value*/) { return true; }
    bool number_float(double /*value*/, const std::string& /*text*/) { return true; }
    bool string(std::string& /*value*/) { return true; }
    bool binary(nlohmann::json::binary_t& /*value*/) { return true; }
    bool key(std::string& /*name*/) { return true; }
    bool start_object(std::size_t /*size*/) { return enter(); }
    bool start_array(std::size_t /*size*/) { return enter(); }
    bool end_object() { return leave(); }
    bool end_array() { return leave(); }

    bool parse_error(std::size_t position, const std::string& /*token*/, const nlohmann::json::exception& error) {
        const std::string at = " at byte " + std::to_string(position) + " of the header";
        if (error.id == 406) throw FormatError(path_text(file_) + ": field: a number is too large" + at);
        const bool utf8 = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
        throw FormatError(path_text(file_) + ": header format: not valid " + (utf8 ? "UTF-8" : "JSON") + at);
    }

private:
    bool enter() {
        if (++depth_ > SafetensorsLimits::kDepth) {
            throw FormatError(path_text(file_) + ": limit: the header is nested more than " +
                              std::to_string(SafetensorsLimits::kDepth) + " levels deep");
        }
        return true;
    }
    bool leave() {
        --depth_;
        return true;
    }

    const std::filesystem::path& file_;
    std::size_t depth_ = 0;
};

/// Second pass: the fields. Only called on valid JSON, an object at the top.
class SafetensorsFields {
public:
    SafetensorsFields(const std::filesystem::path& file, SafetensorsHeader& header) : file_(file), header_(header) {}

    bool null() { return scalar("null"); }
    bool boolean(bool value) { return scalar(value ? "true" : "false"); }
    bool number_integer(std::int64_t value) { return scalar("the number " + std::to_string(value)); }
    bool number_float(double /*value*/, const std::string& text) { return scalar("the number " + text); }

    bool number_unsigned(std::uint64_t value) {
        if (place_ != Place::numbers) return scalar("the number " + std::to_string(value));
        if (field_ == "shape" && tensor_.shape.size() == SafetensorsLimits::kDimensions) {
            fail("limit", "more than " + std::to_string(SafetensorsLimits::kDimensions) + " dimensions");
        }
        if (field_ == "shape") {
            tensor_.shape.push_back(value);
        } else {
            if (offset_count_ == 2) fail("field", "data_offsets holds more than 2 numbers");
            (offset_count_ == 0 ? tensor_.begin : tensor_.end) = value;
            ++offset_count_;
        }
        return true;
    }

    bool string(std::string& value) {
        if (place_ == Place::metadata) {
            header_.metadata.emplace(field_, std::move(value));
        } else if (place_ == Place::tensor && field_ == "dtype") {
            tensor_.dtype = std::move(value);
        } else {
            return scalar("the string " + name_text(value));
        }
        return true;
    }
    bool binary(nlohmann::json::binary_t& /*value*/) { return scalar("binary"); }

    bool key(std::string& name) {
        if (place_ == Place::root) {
            if (!names_.insert(name).second) {
                throw FormatError(path_text(file_) + ": duplicate: the header names " + name_text(name) + " twice");
            }
            tensor_ = TensorInfo{.name = std::move(name), .dtype = {}, .shape = {}};
            offset_count_ = 0;
            seen_.clear();
        } else if (place_ == Place::tensor || place_ == Place::metadata) {
            field_ = std::move(name);
            const bool known = place_ == Place::metadata || is_known();
            if (known && !seen_.insert(field_).second)
                fail("duplicate", "the key " + name_text(field_) + " comes twice");
        }
        return true;
    }

    bool start_object(std::size_t /*size*/) {
        if (place_ == Place::outside) {
            place_ = Place::root;
        } else if (place_ == Place::root) {
            place_ = tensor_.name == kMetadataKey ? Place::metadata : Place::tensor;
        } else {
            open("an object");
        }
        return true;
    }
    bool end_object() {
        if (place_ == Place::unknown) {
            close();
        } else if (place_ == Place::root) {
            place_ = Place::outside;
        } else {
            if (place_ == Place::tensor) finish_tensor();
            place_ = Place::root;
        }
        return true;
    }
    bool start_array(std::size_t /*size*/) {
        if (place_ == Place::tensor && (field_ == "shape" || field_ == "data_offsets")) {
            place_ = Place::numbers;
        } else {
            open("an array");
        }
        return true;
    }
    bool end_array() {
        if (place_ == Place::unknown) {
            close();
        } else {
            place_ = Place::tensor;
        }
        return true;
    }

    static bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                            const nlohmann::json::exception& /*error*/) {
        return false;  // the first pass has accepted the text
    }

private:
    enum class Place { outside, root, metadata, tensor, numbers, unknown };

    [[noreturn]] void fail(const char* kind, const std::string& what) const {
        const std::string subject =
            tensor_.name == kMetadataKey ? std::string(kMetadataKey) : "tensor " + name_text(tensor_.name);
        throw FormatError(path_text(file_) + ": " + subject + ": " + kind + ": " + what);
    }

    [[nodiscard]] bool is_known() const { return field_ == "dtype" || field_ == "shape" || field_ == "data_offsets"; }

    /// A value that is right only inside an unknown field.
    bool scalar(const std::string& found) const {
        if (place_ == Place::unknown || (place_ == Place::tensor && !is_known())) return true;
        misplaced(found);
    }

    /// The start of an object or array that is right only in an unknown field.
    void open(const char* found) {
        if (place_ != Place::unknown && (place_ != Place::tensor || is_known())) misplaced(found);
        place_ = Place::unknown;
        ++unknown_depth_;
    }
    void close() {
        if (--unknown_depth_ == 0) place_ = Place::tensor;
    }

    [[noreturn]] void misplaced(const std::string& found) const {
        if (place_ == Place::root) fail("field", "expected an object, found " + found);
        if (place_ == Place::metadata)
            fail("field", "the value of " + name_text(field_) + " must be a string, not " + found);
        if (field_ == "dtype") fail("field", "dtype must be a string, not " + found);
        fail("field", field_ +
                          (place_ == Place::numbers ? " must hold whole numbers from 0 to 2^64 - 1, not "
                                                    : " must be an array of numbers, not ") +
                          found);
    }

    void finish_tensor() {
        for (const char* field : {"dtype", "shape", "data_offsets"}) {
            if (!seen_.contains(field)) fail("field", std::string(field) + " is missing");
        }
        if (offset_count_ != 2) {
            fail("field", "data_offsets holds " + std::to_string(offset_count_) + " numbers instead of 2");
        }
        if (header_.tensors.size() == SafetensorsLimits::kTensors) {
            fail("limit", "the file has more than " + std::to_string(SafetensorsLimits::kTensors) + " tensors");
        }
        header_.tensors.push_back(std::move(tensor_));
    }

    const std::filesystem::path& file_;
    SafetensorsHeader& header_;
    Place place_ = Place::outside;
    std::size_t unknown_depth_ = 0;
    TensorInfo tensor_;  // the one whose entry is being read; `name` is also set for __metadata__
    std::string field_;
    std::size_t offset_count_ = 0;
    std::unordered_set<std::string> names_;
    std::unordered_set<std::string> seen_;
};

[[noreturn]] inline void throw_tensor(const std::filesystem::path& file, const TensorInfo& tensor,
                                      const std::string& what) {
    throw FormatError(path_text(file) + ": tensor " + name_text(tensor.name) + ": " + what);
}

/// The tensors in the order of their bytes must tile [0, data_bytes).
inline void check_offsets(const std::filesystem::path& file, std::vector<TensorInfo>& tensors,
                          std::uint64_t data_bytes) {
    const auto range = [](const TensorInfo& t) {
        std::string text = "[";  // appended to: GCC 12 warns of overlap in "[" + std::to_string() (its bug 105651)
        return text.append(std::to_string(t.begin)).append(", ").append(std::to_string(t.end)).append(")");
    };
    for (const TensorInfo& tensor : tensors) {
        if (tensor.end < tensor.begin)
            throw_tensor(file, tensor, "offsets: " + range(tensor) + " ends before it begins");
    }
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::uint64_t expected = 0;
    for (const TensorInfo& tensor : tensors) {
        if (tensor.begin != expected) {
            const char* problem = tensor.begin < expected ? " overlaps the tensor before it, which ends at "
                                                          : " leaves a hole: the data before it ends at ";
            throw_tensor(file, tensor, "offsets: " + range(tensor) + problem + std::to_string(expected));
        }
        expected = tensor.end;
    }
    if (expected != data_bytes) {
        const std::string what = "offsets: the last tensor ends at byte " + std::to_string(expected) +
                                 " of the data, but the file holds " + std::to_string(data_bytes);
        if (!tensors.empty()) throw_tensor(file, tensors.back(), what);
        throw FormatError(path_text(file) + ": " + what);
    }
}

inline void check_size(const std::filesystem::path& file, const TensorInfo& tensor) {
    constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t product = 1;
    // Zeros are left out of the product: strides of a [2^40, 2^40, 0] tensor would overflow all the same.
    for (const std::uint64_t size : tensor.shape) {
        if (size != 0 && product > kMax / size) {
            throw_tensor(file, tensor,
                         "overflow: the product of the shape " + shape_text(tensor.shape) + " exceeds 2^64");
        }
        if (size != 0) product *= size;
    }
    const std::uint64_t size = dtype_size(tensor.dtype);
    if (size == 0) return;
    if (product > kMax / size) {
        throw_tensor(file, tensor,
                     "overflow: the bytes of shape " + shape_text(tensor.shape) + " of " + name_text(tensor.dtype) +
                         " exceed 2^64");
    }
    if (tensor.elements() * size != tensor.bytes()) {
        throw_tensor(file, tensor,
                     "size: shape " + shape_text(tensor.shape) + " of " + name_text(tensor.dtype) + " needs " +
                         std::to_string(tensor.elements() * size) + " bytes, but its offsets span " +
                         std::to_string(tensor.bytes()));
    }
}

}  // namespace detail

/// Parses the header of `contents`, a whole file; `file` names it in messages. Reads nothing of the data.
/// O(header) time, at most about four times the header in memory. Throws FormatError.
inline SafetensorsHeader parse_safetensors_header(std::span<const std::byte> contents,
                                                  const std::filesystem::path& file) {
    using detail::path_text;
    const std::string size_text = std::to_string(contents.size());
    if (contents.size() < 8) {
        throw FormatError(path_text(file) + ": header length: a safetensors file has at least 8 bytes, this one " +
                          size_text);
    }
    std::uint64_t length = 0;
    std::memcpy(&length, contents.data(), 8);
    if (length > SafetensorsLimits::kHeaderBytes) {
        throw FormatError(path_text(file) + ": header length: " + std::to_string(length) +
                          " bytes, above the limit of " + std::to_string(SafetensorsLimits::kHeaderBytes));
    }
    if (length > contents.size() - 8) {
        throw FormatError(path_text(file) + ": header length: 8 + " + std::to_string(length) +
                          " bytes do not fit in a file of " + size_text);
    }
    const std::string_view text(reinterpret_cast<const char*>(contents.data()) + 8, static_cast<std::size_t>(length));
    if (!text.starts_with('{')) throw FormatError(path_text(file) + ": header format: does not start with '{'");
    // The JSON library takes a zero byte for the end of its input.
    if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
        throw FormatError(path_text(file) + ": header format: not valid JSON at byte " + std::to_string(zero + 1) +
                          " of the header");
    }

    SafetensorsHeader header;
    detail::SafetensorsSyntax syntax(file);
    nlohmann::json::sax_parse(text.begin(), text.end(), &syntax);
    detail::SafetensorsFields fields(file, header);
    nlohmann::json::sax_parse(text.begin(), text.end(), &fields);

    header.data_begin = 8 + length;
    detail::check_offsets(file, header.tensors, contents.size() - header.data_begin);
    for (const TensorInfo& tensor : header.tensors) detail::check_size(file, tensor);
    return header;
}

}  // namespace lowrank

#include <lowrank/checkpoint/compiled/json.hpp>  // below what it announces
