// The check of a file that a program is to write beside its main output, made before the work begins.
#pragma once

#include <lowrank/checkpoint/mapped_file.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include <unistd.h>

namespace command_line {

/// Throws ValueError if `file`, given by `option`, is or lies in one of `reserved`, files and folders that are read or
/// written otherwise, and IoError if it cannot be created. Nothing if `file` is empty.
inline void require_free(const std::filesystem::path& file, const std::string& option,
                         const std::vector<std::filesystem::path>& reserved) {
    namespace fs = std::filesystem;
    using lowrank::detail::path_text;
    if (file.empty()) return;
    std::error_code error;
    const fs::path target = fs::weakly_canonical(fs::absolute(file), error);
    for (const fs::path& other : reserved) {
        if (other.empty()) continue;
        const fs::path there = fs::weakly_canonical(fs::absolute(other), error);
        if (std::mismatch(there.begin(), there.end(), target.begin(), target.end()).first != there.end()) continue;
        throw lowrank::ValueError(option + " " + path_text(file) + (target == there ? " is also " : " lies in ") +
                                  path_text(other) + ", which is read or written otherwise: choose another file");
    }
    if (fs::is_directory(target, error)) throw lowrank::ValueError(option + " " + path_text(file) + " is a folder");
    const bool there = fs::exists(target, error);
    if (::access((there ? target : target.parent_path()).c_str(), W_OK) != 0) {
        lowrank::detail::throw_io(file, "cannot create", errno);
    }
}

}  // namespace command_line
