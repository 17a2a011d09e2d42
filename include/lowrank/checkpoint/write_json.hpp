// lowrank - writes a JSON report to a file, whole or not at all, or to a device.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/checkpoint/atomic_file.hpp>
#include <lowrank/checkpoint/messages.hpp>

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

namespace lowrank::detail {

/// A path that names a device or a pipe (/dev/stdout) is written to as it is; a file is replaced as a whole. Throws
/// IoError.
inline void write_json(const nlohmann::ordered_json& json, const std::filesystem::path& path) {
    // A path need not be UTF-8: bytes that are not become U+FFFD instead of an error after all the work.
    const std::string text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status) || std::filesystem::is_regular_file(status)) {
        AtomicFile file(path);
        file.append(text);
        file.commit();
        return;
    }
    std::FILE* stream = std::fopen(path.c_str(), "w");
    if (stream == nullptr) throw_io(path, "cannot open", errno);
    const bool written = std::fwrite(text.data(), 1, text.size(), stream) == text.size();
    const int reason = errno;
    if (const bool closed = std::fclose(stream) == 0; !written || !closed) {
        throw_io(path, "cannot write", written ? errno : reason);
    }
}

}  // namespace lowrank::detail
