// lowrank - how the checkpoint headers name files and tensors in their messages.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/error.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace lowrank::detail {

/// A name from a file, safe to show on one line of a terminal: quoted, control characters as \xNN, at most about
/// 200 bytes of it.
inline std::string name_text(std::string_view name) {
    constexpr std::size_t kLongest = 200;
    constexpr char kHex[] = "0123456789abcdef";
    std::string text = "'";
    for (const char c : name.substr(0, kLongest)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) {
            text += "\\x";
            text += kHex[byte >> 4];
            text += kHex[byte & 15U];
        } else {
            text += c;
        }
    }
    if (name.size() > kLongest) text += "...";
    return text + "'";
}

inline std::string path_text(const std::filesystem::path& path) {
    return name_text(path.native());
}

/// "[2, 3]"; a scalar is "[]".
inline std::string shape_text(const std::vector<std::uint64_t>& shape) {
    std::string text = "[";
    for (const std::uint64_t size : shape) {
        if (text.size() > 1) text += ", ";
        text += std::to_string(size);
    }
    return text + "]";
}

/// "'model.safetensors': cannot open: No such file or directory".
[[noreturn]] inline void throw_io(const std::filesystem::path& path, const char* what, int error) {
    throw IoError(path_text(path) + ": " + what + ": " + std::generic_category().message(error));
}

}  // namespace lowrank::detail
