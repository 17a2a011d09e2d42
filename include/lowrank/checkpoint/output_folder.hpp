// lowrank - a folder that appears under its name whole or not at all (POSIX).
// SPDX-License-Identifier: MIT
//
// It is filled under a temporary name beside the target and renamed by `commit`. Destroying or abandoning it before
// that removes everything written and leaves the target as it was. An old target is replaced only on request, only if
// it looks like a checkpoint, and only at the moment of the commit: where the system can exchange two names (Linux),
// there is no instant at which neither is there.
//
//     lowrank::OutputFolder out("compressed", {.replace = false, .source = "model"});
//     ... write files into out.folder() ...
//     out.commit();
#pragma once

#include <lowrank/checkpoint/atomic_file.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lowrank {

struct OutputFolderOptions {
    bool replace = false;  ///< an existing target may be replaced
    std::filesystem::path source =
        {};  ///< a folder that is read meanwhile; target and source may not contain each other
};

class OutputFolder {
public:
    /// Throws ValueError for a target that may not be replaced, IoError if the temporary folder cannot be made.
    explicit OutputFolder(const std::filesystem::path& target, const OutputFolderOptions& options = {}) {
        namespace fs = std::filesystem;
        std::error_code error;
        target_ = fs::weakly_canonical(fs::absolute(target, error), error);
        if (target.empty() || error)
            detail::throw_io(target, "cannot resolve the path", error ? error.value() : ENOENT);
        if (!target_.has_filename()) target_ = target_.parent_path();  // "folder/"
        check_source(options.source);
        check_target(options.replace);
        for (int n = 0; folder_.empty(); ++n) {
            fs::path candidate = detail::temporary_sibling(target_, n);
            if (::mkdir(candidate.c_str(), 0777) == 0) {
                folder_ = std::move(candidate);
            } else if (errno != EEXIST) {
                detail::throw_io(target_, "cannot create", errno);
            }
        }
    }
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;
    ~OutputFolder() { abandon(); }

    [[nodiscard]] const std::filesystem::path& target() const { return target_; }
    /// Where to write until `commit`.
    [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

    /// Puts the folder in the target's place, durably, and removes what was there. The files in it must have been
    /// synchronised (AtomicFile does). Throws IoError; the target is then as it was, unless only the last step,
    /// synchronising the parent folder, failed.
    void commit() {
        detail::synchronise_folder(folder_);
        const std::lock_guard lock(mutex_);
        if (done_) throw IoError(detail::path_text(target_) + ": cannot be written any more: it was abandoned");
        const bool replaced = std::filesystem::exists(target_);
        if (replaced) {
            exchange();
        } else if (::rename(folder_.c_str(), target_.c_str()) != 0) {
            detail::throw_io(target_, "cannot rename to it", errno);
        }
        done_ = true;
        std::error_code ignored;
        if (replaced) std::filesystem::remove_all(folder_, ignored);  // what was the target
        detail::synchronise_folder(target_.parent_path());
    }

    /// Removes everything written, unless `commit` came first. May be called from another thread than the one that
    /// writes: that one's next operation on the folder then fails.
    void abandon() noexcept {
        const std::lock_guard lock(mutex_);
        if (std::exchange(done_, true)) return;
        std::error_code ignored;
        try {
            // Under another name first, so that a writer cannot put a new file into what is being removed.
            const std::filesystem::path doomed = folder_.string() + ".removed";
            std::filesystem::rename(folder_, doomed, ignored);
            std::filesystem::remove_all(ignored ? folder_ : doomed, ignored);
        } catch (...) {  // out of memory for a path: the temporary folder stays
        }
    }

private:
    static bool contains(const std::filesystem::path& outer, const std::filesystem::path& inner) {
        return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
    }

    void check_source(const std::filesystem::path& source) const {
        if (source.empty()) return;
        const std::filesystem::path from = std::filesystem::weakly_canonical(source);
        if (from == target_)
            throw ValueError(detail::path_text(target_) + ": cannot be both the source and the target");
        if (contains(from, target_)) {
            throw ValueError(detail::path_text(target_) + ": the target lies inside the source " +
                             detail::path_text(from));
        }
        if (contains(target_, from)) {
            throw ValueError(detail::path_text(target_) + ": the target contains the source " +
                             detail::path_text(from));
        }
    }

    void check_target(bool replace) const {
        namespace fs = std::filesystem;
        std::error_code error;
        const fs::file_status status = fs::status(target_, error);
        if (status.type() == fs::file_type::not_found) return;
        if (status.type() == fs::file_type::none) detail::throw_io(target_, "cannot look it up", error.value());
        const std::string name = detail::path_text(target_);
        if (!replace) throw ValueError(name + ": exists already, and is replaced only on request (--force)");
        if (!fs::is_directory(status)) throw ValueError(name + ": is not a folder, and is not replaced by one");
        const bool checkpoint = fs::exists(target_ / "model.safetensors") ||
                                fs::exists(target_ / "model.safetensors.index.json") || fs::is_empty(target_, error);
        if (!checkpoint) {
            throw ValueError(name + ": holds no model.safetensors, so it is no checkpoint, and is not replaced by one");
        }
    }

    /// Swaps the temporary folder and the target.
    void exchange() {
#if defined(__linux__) && defined(RENAME_EXCHANGE)
        if (::renameat2(AT_FDCWD, folder_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) return;
        if (errno != EINVAL && errno != ENOSYS) detail::throw_io(target_, "cannot replace", errno);
#endif
        // Where the system cannot swap: the old one steps aside, and comes back if the new one cannot take its place.
        const std::string aside = folder_.string() + ".old";
        if (::rename(target_.c_str(), aside.c_str()) != 0) detail::throw_io(target_, "cannot replace", errno);
        if (::rename(folder_.c_str(), target_.c_str()) != 0) {
            const int reason = errno;
            ::rename(aside.c_str(), target_.c_str());
            detail::throw_io(target_, "cannot replace", reason);
        }
        folder_ = aside;
    }

    std::filesystem::path target_;
    std::filesystem::path folder_;
    std::mutex mutex_;
    bool done_ = false;  // committed or abandoned
};

}  // namespace lowrank
