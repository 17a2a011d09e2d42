// lowrank - a file that appears under its name whole or not at all (POSIX).
// SPDX-License-Identifier: MIT
//
// It is written under a temporary name in the target's folder (".lowrank-PID-N.tmp"), synchronised, renamed over the
// target, and the folder synchronised: after a crash at any moment the target is absent, as it was before, or whole.
// Destroying it before `commit` removes the temporary file and leaves the target as it was.
//
//     lowrank::AtomicFile file("report.json");
//     file.append(bytes);
//     file.commit();
#pragma once

#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lowrank {

namespace detail {

/// The n-th candidate for a temporary name beside `target`. It does not contain the target's own name, which may
/// already have the longest length that the file system allows.
inline std::filesystem::path temporary_sibling(const std::filesystem::path& target, int n) {
    return target.parent_path() / (".lowrank-" + std::to_string(::getpid()) + "-" + std::to_string(n) + ".tmp");
}

/// fsync that survives signals. Returns 0 or an errno value.
inline int synchronise(int descriptor) {
    while (::fsync(descriptor) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

/// Makes creations, renames and removals in `folder` durable. Throws IoError.
inline void synchronise_folder(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder.empty() ? std::filesystem::path(".") : folder;
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) throw_io(path, "cannot open the folder", errno);
    const int error = synchronise(descriptor);
    ::close(descriptor);
    // Some file systems (network shares, FUSE) have no such operation for folders, and say so.
    if (error != 0 && error != EINVAL && error != ENOTSUP) throw_io(path, "cannot synchronise the folder", error);
}

}  // namespace detail

class AtomicFile {
public:
    /// Creates the temporary file. Throws IoError if the folder does not allow that, or if `target` exists and is not
    /// a regular file.
    explicit AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
        struct stat status {};
        if (::stat(target_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
            throw IoError(detail::path_text(target_) + ": cannot be replaced: it is not a regular file");
        }
        for (int n = 0; descriptor_ < 0; ++n) {
            temporary_ = detail::temporary_sibling(target_, n);
            descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            if (descriptor_ < 0 && errno != EEXIST && errno != EINTR) detail::throw_io(target_, "cannot create", errno);
        }
    }
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    ~AtomicFile() {
        if (descriptor_ >= 0) ::close(descriptor_);
        if (!temporary_.empty()) ::unlink(temporary_.c_str());
    }

    [[nodiscard]] const std::filesystem::path& target() const { return target_; }
    [[nodiscard]] std::uint64_t size() const { return size_; }

    /// Writes all of `bytes`, whatever the number of system calls it takes. Throws IoError with the system's reason.
    void append(std::span<const std::byte> bytes) { write_at(size_, bytes); }
    void append(std::string_view text) { append(std::as_bytes(std::span(text.data(), text.size()))); }

    /// The same at `offset`, which may lie beyond the end: what is between reads as zeros.
    void write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
        constexpr std::size_t kMost = std::size_t{1} << 30;  // some systems refuse a count above 2^31
        while (!bytes.empty()) {
            const ssize_t written =
                ::pwrite(descriptor_, bytes.data(), std::min(bytes.size(), kMost), static_cast<off_t>(offset));
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) detail::throw_io(target_, "cannot write", errno);
            if (written == 0) detail::throw_io(target_, "cannot write", EIO);
            bytes = bytes.subspan(static_cast<std::size_t>(written));
            start_writing(offset, written);
            offset += static_cast<std::uint64_t>(written);
            size_ = std::max(size_, offset);
        }
    }

    /// Gives the file the permissions `mode` instead of the umask's, where the file system has any.
    void set_permissions(mode_t mode) const { static_cast<void>(::fchmod(descriptor_, mode)); }

    /// Puts the file in the target's place. Throws IoError; only a failure of the very last step, synchronising the
    /// folder, leaves the new file there.
    void commit() {
        if (const int error = detail::synchronise(descriptor_); error != 0) {
            detail::throw_io(target_, "cannot synchronise", error);
        }
        // A failed close has closed the descriptor all the same; EINTR means nothing once the data is synchronised.
        if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) {
            detail::throw_io(target_, "cannot close", errno);
        }
        if (::rename(temporary_.c_str(), target_.c_str()) != 0) detail::throw_io(target_, "cannot rename to it", errno);
        temporary_.clear();
        detail::synchronise_folder(target_.parent_path());
    }

private:
    /// Has the system begin now, while the next layer is computed, what commit() would have to wait for. A hint.
    void start_writing([[maybe_unused]] std::uint64_t offset, [[maybe_unused]] ssize_t count) const noexcept {
#ifdef SYNC_FILE_RANGE_WRITE
        constexpr ssize_t kWorthIt = ssize_t{1} << 20;
        if (count < kWorthIt) return;
        static_cast<void>(::sync_file_range(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(count),
                                            SYNC_FILE_RANGE_WRITE));
#endif
    }

    std::filesystem::path target_;
    std::filesystem::path temporary_;
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
};

}  // namespace lowrank
