// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/mapped_file.hpp>

#include "support.hpp"

#include <utility>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using lowrank::IoError;
using lowrank::MappedFile;
using namespace lowrank_test;

namespace {

/// Resident pages of this process that belong to files, in bytes.
std::size_t resident_file_bytes() {
    std::ifstream status("/proc/self/statm");
    std::size_t size = 0;
    std::size_t resident = 0;
    std::size_t shared = 0;
    status >> size >> resident >> shared;
    return shared * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("a mapped file shows the file's bytes", "[checkpoint]") {
    const TemporaryFolder folder;
    write_file(folder / "a", "hello");
    const MappedFile file(folder / "a");
    CHECK(file.size() == 5);
    CHECK(text_of(file.bytes()) == "hello");
    CHECK(file.path() == folder / "a");
}

TEST_CASE("an empty file maps to no bytes", "[checkpoint]") {
    const TemporaryFolder folder;
    write_file(folder / "empty", "");
    const MappedFile file(folder / "empty");
    CHECK(file.bytes().empty());
    file.release(0, 100);
    file.prefetch(0, 100);
}

TEST_CASE("a mapped file moves", "[checkpoint]") {
    const TemporaryFolder folder;
    write_file(folder / "a", "first");
    write_file(folder / "b", "second");
    MappedFile a(folder / "a");
    MappedFile b(std::move(a));
    CHECK(text_of(b.bytes()) == "first");
    b = MappedFile(folder / "b");
    CHECK(text_of(b.bytes()) == "second");
}

TEST_CASE("what cannot be mapped is refused with the system's reason", "[checkpoint]") {
    const TemporaryFolder folder;
    SECTION("missing") {
        CHECK(mentions(message_of<IoError>([&] { MappedFile(folder / "gone"); }), {"gone'", "No such file"}));
    }
    SECTION("a folder") {
        CHECK(mentions(message_of<IoError>([&] { MappedFile(folder.path()); }), {"Is a directory"}));
    }
    SECTION("a pipe, without waiting for its other end") {
        REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
        CHECK(mentions(message_of<IoError>([&] { MappedFile(folder / "pipe"); }), {"pipe'", "not a regular file"}));
    }
    SECTION("unreadable") {
        if (::geteuid() == 0) return;  // the superuser reads everything
        write_file(folder / "secret", "x");
        REQUIRE(::chmod((folder / "secret").c_str(), 0) == 0);
        CHECK(mentions(message_of<IoError>([&] { MappedFile(folder / "secret"); }), {"secret'", "Permission denied"}));
    }
}

#ifdef __linux__
TEST_CASE("released pages leave resident memory and keep their contents", "[checkpoint]") {
    constexpr std::size_t kSize = std::size_t{32} << 20;
    const TemporaryFolder folder;
    write_file(folder / "big", std::string(kSize, 'x'));
    const MappedFile file(folder / "big");
    const std::size_t before = resident_file_bytes();
    std::size_t sum = 0;
    for (const std::byte b : file.bytes()) sum += static_cast<std::size_t>(b);
    CHECK(sum == kSize * 'x');
    CHECK(resident_file_bytes() >= before + kSize / 2);
    file.release(1, kSize - 1);  // all but the first page
    CHECK(resident_file_bytes() < before + kSize / 8);
    CHECK(file.bytes()[kSize / 2] == static_cast<std::byte>('x'));
}
#endif

TEST_CASE("releasing and prefetching outside the file do nothing", "[checkpoint]") {
    const TemporaryFolder folder;
    write_file(folder / "a", "hello");
    const MappedFile file(folder / "a");
    const std::size_t most = static_cast<std::size_t>(-1);
    for (const std::size_t begin : {std::size_t{0}, std::size_t{3}, std::size_t{5}, most}) {
        file.release(begin, most);
        file.prefetch(begin, most);
        file.release(begin, 0);
        file.prefetch(begin, 0);
    }
    CHECK(text_of(file.bytes()) == "hello");
}
