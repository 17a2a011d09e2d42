// lowrank - a file of any size as read-only memory (POSIX).
// SPDX-License-Identifier: MIT
//
// Pages are read when they are first touched and count as resident memory from then on, so a pass over a large
// file calls `release` behind itself: resident memory then follows the pass instead of the file. A file that another
// process shortens while it is mapped is outside what this can guard against (the system sends SIGBUS).
//
//     lowrank::MappedFile file("model.safetensors");
//     use(file.bytes().subspan(begin, size));
//     file.release(begin, size);
#pragma once

#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lowrank {

class MappedFile {
public:
    /// Throws IoError, with the system's reason, for a file that is missing, unreadable or not a regular file.
    explicit MappedFile(std::filesystem::path path) : path_(std::move(path)) {
        // O_NONBLOCK: opening a pipe by mistake then fails below instead of waiting for a writer.
        const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (descriptor < 0) detail::throw_io(path_, "cannot open", errno);
        const int error = map(descriptor);
        ::close(descriptor);  // the mapping keeps the file
        if (error == kNotRegular) throw IoError(detail::path_text(path_) + ": not a regular file");
        if (error != 0) detail::throw_io(path_, "cannot read", error);
    }

    MappedFile(MappedFile&& other) noexcept
        : path_(std::move(other.path_)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          permissions_(other.permissions_) {}
    MappedFile& operator=(MappedFile&& other) noexcept {
        std::swap(path_, other.path_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(permissions_, other.permissions_);
        return *this;
    }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile() {
        if (data_ != nullptr) ::munmap(data_, size_);
    }

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    [[nodiscard]] std::size_t size() const { return size_; }
    /// The mode bits rwxrwxrwx.
    [[nodiscard]] mode_t permissions() const { return permissions_; }
    [[nodiscard]] std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

    /// Drops the pages that lie wholly in [begin, begin + size) from this process's resident memory. Their contents
    /// stay valid: a later access reads them again, mostly from the system's cache.
    void release(std::size_t begin, std::size_t size) const noexcept {
        const std::size_t page = page_size();
        if (begin >= size_) return;
        std::size_t end = size < size_ - begin ? begin + size : size_;
        begin = (begin + page - 1) / page * page;
        if (end < size_) end = end / page * page;  // the file's last page is shared with nothing
        if (begin < end) advise(begin, end, MADV_DONTNEED);
    }

    /// Asks the system to start reading [begin, begin + size) into its cache, without waiting and without making it
    /// resident here.
    void prefetch(std::size_t begin, std::size_t size) const noexcept {
        if (begin >= size_ || size == 0) return;
        const std::size_t end = size < size_ - begin ? begin + size : size_;
        advise(begin / page_size() * page_size(), end, MADV_WILLNEED);
    }

    /// Hands `part`, a part of `bytes()`, to `take` in pieces, releasing each afterwards.
    template <class Take>
    void stream(std::span<const std::byte> part, Take&& take) const {
        // Large enough that a system call costs nothing beside its work, small beside a layer.
        constexpr std::size_t kPiece = std::size_t{8} << 20;
        while (!part.empty()) {
            const auto piece = part.first(std::min(part.size(), kPiece));
            take(piece);
            release(static_cast<std::size_t>(piece.data() - bytes().data()), piece.size());
            part = part.subspan(piece.size());
        }
    }

private:
    static constexpr int kNotRegular = -1;

    static std::size_t page_size() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

    void advise(std::size_t begin, std::size_t end, int advice) const noexcept {
        // Only a hint: where the system refuses it, nothing is lost but memory or time.
        static_cast<void>(::madvise(static_cast<std::byte*>(data_) + begin, end - begin, advice));
    }

    /// 0, an errno value, or kNotRegular.
    int map(int descriptor) {
        struct stat status {};
        if (::fstat(descriptor, &status) != 0) return errno;
        if (S_ISDIR(status.st_mode)) return EISDIR;
        if (!S_ISREG(status.st_mode)) return kNotRegular;
        permissions_ = status.st_mode & 0777U;
        if (static_cast<std::uintmax_t>(status.st_size) > std::numeric_limits<std::size_t>::max()) return EFBIG;
        if (status.st_size == 0) return 0;  // mmap refuses an empty mapping
        const auto size = static_cast<std::size_t>(status.st_size);
        void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data == MAP_FAILED) return errno;
        data_ = data;
        size_ = size;
        return 0;
    }

    std::filesystem::path path_;
    void* data_ = nullptr;
    std::size_t size_ = 0;
    mode_t permissions_ = 0;
};

}  // namespace lowrank
