// lowrank - writes safetensors files of any size as a stream, crash-safe.
// SPDX-License-Identifier: MIT
//
// The format puts the header first, but the size of a factorised layer is known only when it has been computed. So
// the writer reserves room for the header, streams the tensors behind it, and fills the header in at the end, padded
// with the spaces that the format allows. Nothing but the list of tensors is held in memory. The file appears under
// its name only by `commit` (atomic_file.hpp).
//
//     lowrank::SafetensorsWriter file("out.safetensors", 4096);
//     file.begin("w", "BF16", {2, 3});
//     file.write(bytes);                       // in any number of pieces
//     file.commit({{"format", "pt"}});
#pragma once

#include <lowrank/checkpoint/atomic_file.hpp>
#include <lowrank/checkpoint/dtype.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/safetensors_header.hpp>
#include <lowrank/error.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace lowrank {

namespace detail {

/// `text` as a JSON string with its quotation marks. Throws ValueError if it is not UTF-8.
inline std::string json_string(std::string_view text) {
    try {
        return nlohmann::json(text).dump();
    } catch (const nlohmann::json::exception&) {
        throw ValueError("a safetensors header cannot hold " + name_text(text) + ": it is not valid UTF-8");
    }
}

}  // namespace detail

/// The header of a file with these tensors, padded to a multiple of 8 bytes as the format asks. Throws ValueError for
/// a name or metadata that is not UTF-8.
inline std::string safetensors_header_text(std::span<const TensorInfo> tensors,
                                           const std::map<std::string, std::string>& metadata) {
    std::string text = "{";
    if (!metadata.empty()) {
        text += "\"__metadata__\":{";
        for (const auto& [key, value] : metadata) {
            if (text.back() != '{') text += ',';
            text += detail::json_string(key) + ':' + detail::json_string(value);
        }
        text += '}';
    }
    for (const TensorInfo& tensor : tensors) {
        if (text.size() > 1) text += ',';
        text += detail::json_string(tensor.name) + ":{\"dtype\":" + detail::json_string(tensor.dtype) + ",\"shape\":[";
        for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
            if (i > 0) text += ',';
            text += std::to_string(tensor.shape[i]);
        }
        text += "],\"data_offsets\":[" + std::to_string(tensor.begin) + ',' + std::to_string(tensor.end) + "]}";
    }
    text += '}';
    text.append((8 - text.size() % 8) % 8, ' ');
    return text;
}

class SafetensorsWriter {
public:
    /// Starts the file that will be `target`, with room for a header of `header_capacity` bytes, rounded up to a
    /// multiple of 8. `safetensors_header_text(...).size()` of the largest header possible is enough.
    /// Throws IoError.
    SafetensorsWriter(std::filesystem::path target, std::uint64_t header_capacity)
        : file_(std::move(target)), capacity_((header_capacity + 7) / 8 * 8) {
        if (capacity_ > SafetensorsLimits::kHeaderBytes) {
            throw ValueError(path_text() + ": a header of " + std::to_string(capacity_) +
                             " bytes is above the format's limit of " +
                             std::to_string(SafetensorsLimits::kHeaderBytes));
        }
        position_ = 8 + capacity_;
    }

    /// The next tensor. Throws ValueError for a name that is taken or reserved or for too many dimensions, FormatError
    /// if the bytes of the tensor before it are not those of its shape.
    void begin(std::string name, std::string dtype, std::vector<std::uint64_t> shape) {
        finish_tensor();
        if (name == detail::kMetadataKey) {
            throw ValueError(path_text() + ": a tensor cannot be named " + detail::name_text(name));
        }
        if (!names_.insert(name).second) {
            throw ValueError(path_text() + ": there already is a tensor " + detail::name_text(name));
        }
        if (shape.size() > SafetensorsLimits::kDimensions) {
            throw ValueError(path_text() + ": tensor " + detail::name_text(name) + " has " +
                             std::to_string(shape.size()) + " dimensions, more than " +
                             std::to_string(SafetensorsLimits::kDimensions));
        }
        const std::uint64_t at = position_ - 8 - capacity_;
        tensors_.push_back({std::move(name), std::move(dtype), std::move(shape), at, at});
    }

    /// Appends data to the tensor begun last. Throws IoError, or ShapeError if there is none.
    void write(std::span<const std::byte> bytes) {
        if (tensors_.empty()) throw ShapeError(path_text() + ": data was written before a tensor was begun");
        file_.write_at(position_, bytes);
        position_ += bytes.size();
        tensors_.back().end += bytes.size();
    }

    /// Writes the header and puts the file in its place. Throws IoError, FormatError as `begin` does, ValueError if the
    /// header exceeds its capacity.
    void commit(const std::map<std::string, std::string>& metadata = {}) {
        finish_tensor();
        std::string header = safetensors_header_text(tensors_, metadata);
        if (header.size() > capacity_) {
            throw ValueError(path_text() + ": the header takes " + std::to_string(header.size()) + " bytes, but only " +
                             std::to_string(capacity_) + " were reserved for it");
        }
        header.append(static_cast<std::size_t>(capacity_) - header.size(), ' ');
        std::uint64_t length = capacity_;
        file_.write_at(0, std::as_bytes(std::span(&length, 1)));
        file_.write_at(8, std::as_bytes(std::span(header.data(), header.size())));
        file_.commit();
    }

    [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }
    /// Bytes of the whole file so far, its header included.
    [[nodiscard]] std::uint64_t file_bytes() const { return position_; }

private:
    [[nodiscard]] std::string path_text() const { return detail::path_text(file_.target()); }

    void finish_tensor() const {
        if (!tensors_.empty()) detail::check_size(file_.target(), tensors_.back());
    }

    AtomicFile file_;
    std::uint64_t capacity_;
    std::uint64_t position_ = 0;
    std::vector<TensorInfo> tensors_;
    std::unordered_set<std::string> names_;
};

}  // namespace lowrank
