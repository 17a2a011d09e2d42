// lowrank - the files of a checkpoint folder that are not its weights, and copying them bit for bit.
// SPDX-License-Identifier: MIT
//
// Symbolic links are followed, as the download cache of Hugging Face makes every file one: the copy holds contents.
#pragma once

#include <lowrank/checkpoint/atomic_file.hpp>
#include <lowrank/checkpoint/mapped_file.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace lowrank {

namespace detail {

class FolderLister {
public:
    FolderLister(std::filesystem::path root, const std::set<std::string>& skipped)
        : root_(std::move(root)), skipped_(skipped) {}

    std::vector<std::filesystem::path> list() {
        enter({});
        std::sort(found_.begin(), found_.end());
        return std::move(found_);
    }

private:
    void enter(const std::filesystem::path& folder) {
        namespace fs = std::filesystem;
        std::error_code error;
        const fs::path here = fs::canonical(root_ / folder, error);
        if (error) throw_io(root_ / folder, "cannot open", error.value());
        if (std::find(open_.begin(), open_.end(), here) != open_.end()) {
            throw IoError(path_text(root_ / folder) + ": a symbolic link leads back to a folder that contains it");
        }
        open_.push_back(here);
        fs::directory_iterator entries(root_ / folder, error);
        for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
            const fs::path name = folder / entries->path().filename();
            if (skipped_.contains(name.string())) continue;
            const fs::file_status status = fs::status(root_ / name, error);
            if (error) throw_io(root_ / name, "cannot look it up", error.value());
            if (fs::is_directory(status)) {
                enter(name);
            } else {
                found_.push_back(name);  // anything but a regular file is refused when it is opened
            }
        }
        if (error) throw_io(root_ / folder, "cannot list", error.value());
        open_.pop_back();
    }

    std::filesystem::path root_;
    const std::set<std::string>& skipped_;
    std::vector<std::filesystem::path> open_;  // the folders from the root to here
    std::vector<std::filesystem::path> found_;
};

}  // namespace detail

/// All files below `folder`, as paths relative to it, sorted, without the entries `skipped` (relative paths of files
/// or of folders). Throws IoError, also for a link that leads nowhere or in a circle.
inline std::vector<std::filesystem::path> list_files(const std::filesystem::path& folder,
                                                     const std::set<std::string>& skipped = {}) {
    return detail::FolderLister(folder, skipped).list();
}

/// Copies the contents and the permissions of the file `name` below one folder to below another, crash-safe, making the
/// folders between that are missing, but not `to` itself: it may have been abandoned. Throws IoError.
inline void copy_file(const std::filesystem::path& from, const std::filesystem::path& to,
                      const std::filesystem::path& name) {
    const MappedFile source(from / name);
    std::filesystem::path folder = to;
    for (const std::filesystem::path& part : name.parent_path()) {
        folder /= part;
        std::error_code error;
        std::filesystem::create_directory(folder, error);
        if (error) detail::throw_io(folder, "cannot create", error.value());
    }
    AtomicFile target(to / name);
    source.stream(source.bytes(), [&](std::span<const std::byte> piece) { target.append(piece); });
    target.set_permissions(source.permissions());
    target.commit();
}

}  // namespace lowrank
