// lowrank - a temporary file without a name (POSIX): it is gone when the program ends, however it ends.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/checkpoint/atomic_file.hpp>
#include <lowrank/checkpoint/messages.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include <fcntl.h>
#include <unistd.h>

namespace lowrank {

class ScratchFile {
public:
    /// In the file system of `folder`. Throws IoError.
    explicit ScratchFile(const std::filesystem::path& folder) : folder_(folder) {
        for (int n = 0; descriptor_ < 0; ++n) {
            const std::filesystem::path name = detail::temporary_sibling(folder / "scratch", n);
            descriptor_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            if (descriptor_ >= 0) ::unlink(name.c_str());
            if (descriptor_ < 0 && errno != EEXIST && errno != EINTR) detail::throw_io(folder, "cannot create", errno);
        }
    }
    ScratchFile(const ScratchFile&) = delete;
    ScratchFile& operator=(const ScratchFile&) = delete;
    ~ScratchFile() { ::close(descriptor_); }

    /// Appends all of `bytes` and returns where they begin. Throws IoError.
    std::uint64_t append(std::span<const std::byte> bytes) {
        const std::uint64_t begin = size_;
        transfer(bytes, size_, "cannot write a temporary file", ::pwrite);
        size_ += bytes.size();
        return begin;
    }

    /// Fills `bytes` with what lies at `offset`. Throws IoError.
    void read(std::uint64_t offset, std::span<std::byte> bytes) const {
        transfer(bytes, offset, "cannot read a temporary file", ::pread);
    }

private:
    /// All of `bytes`, whatever the number of system calls it takes.
    template <class Byte, class Call>
    void transfer(std::span<Byte> bytes, std::uint64_t offset, const char* what, Call call) const {
        constexpr std::size_t kMost = std::size_t{1} << 30;  // some systems refuse a count above 2^31
        while (!bytes.empty()) {
            const ssize_t done =
                call(descriptor_, bytes.data(), std::min(bytes.size(), kMost), static_cast<off_t>(offset));
            if (done < 0 && errno == EINTR) continue;
            if (done <= 0) detail::throw_io(folder_, what, done < 0 ? errno : EIO);
            bytes = bytes.subspan(static_cast<std::size_t>(done));
            offset += static_cast<std::uint64_t>(done);
        }
    }

    std::filesystem::path folder_;
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
};

}  // namespace lowrank
