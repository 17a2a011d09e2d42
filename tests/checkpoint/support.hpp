// Helpers of the checkpoint tests: temporary folders, raw files, and checks of an error's message.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/checkpoint/safetensors_writer.hpp>
#include <lowrank/error.hpp>

#include "../catch.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <stdlib.h>

namespace lowrank_test {

/// A fresh folder, removed at the end of the test.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "lowrank-test-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
        path_ = name;
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

    /// The names in the folder, subfolders not entered.
    [[nodiscard]] std::set<std::string> names() const {
        std::set<std::string> found;
        for (const auto& entry : std::filesystem::directory_iterator(path_)) found.insert(entry.path().filename());
        return found;
    }

private:
    std::filesystem::path path_;
};

inline void write_file(const std::filesystem::path& path, std::string_view contents) {
    std::ofstream file(path, std::ios::binary);
    file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
    if (!file) throw std::runtime_error("cannot write " + path.string());
}

inline std::string read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// A safetensors file with this header, byte for byte, followed by `data_bytes` bytes 0, 1, 2, ...
inline std::string raw_safetensors(std::string_view header, std::size_t data_bytes) {
    const std::uint64_t length = header.size();
    std::string file(sizeof(length), '\0');
    std::memcpy(file.data(), &length, sizeof(length));
    file += header;
    for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
    return file;
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
    return std::as_bytes(std::span(values));
}

inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A well-formed file of F32 tensors: name -> values, each of shape [n].
inline void write_vectors(const std::filesystem::path& path, const std::map<std::string, std::vector<float>>& tensors) {
    lowrank::SafetensorsWriter file(path, 4096);
    for (const auto& [name, values] : tensors) {
        file.begin(name, "F32", {values.size()});
        file.write(bytes_of(values));
    }
    file.commit();
}

/// Runs `f`, which must throw an E, and returns its message.
template <class E, class F>
std::string message_of(F&& f) {
    try {
        f();
    } catch (const E& error) {
        return error.what();
    } catch (const std::exception& error) {
        FAIL("threw another type of exception: " << error.what());
    }
    FAIL("threw nothing");
    return {};
}

/// Whether `message` is one line that contains every one of `parts`.
inline bool mentions(const std::string& message, std::initializer_list<std::string_view> parts) {
    UNSCOPED_INFO("message: " << message);
    bool all = message.find('\n') == std::string::npos;
    for (const std::string_view part : parts) {
        if (message.find(part) != std::string::npos) continue;
        UNSCOPED_INFO("missing: " << part);
        all = false;
    }
    return all;
}

}  // namespace lowrank_test
