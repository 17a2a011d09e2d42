// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/safetensors.hpp>
#include <lowrank/checkpoint/safetensors_writer.hpp>

#include "support.hpp"

#include <csignal>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace lowrank;
using namespace lowrank_test;

namespace {

std::uint64_t header_length(const std::string& file) {
    std::uint64_t length = 0;
    REQUIRE(file.size() >= sizeof(length));
    std::memcpy(&length, file.data(), sizeof(length));
    return length;
}

/// While it lives, no file of this process grows beyond `bytes`: writes there fail with EFBIG, as on a full disk they
/// do with ENOSPC.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        struct rlimit limit = before_;
        limit.rlim_cur = bytes;
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;
    ~FileSizeLimit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    void (*handler_)(int);
    struct rlimit before_ {};
};

}  // namespace

TEST_CASE("the header is padded to 8 bytes, whatever its length", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    for (std::size_t letters = 1; letters <= 9; ++letters) {
        const std::string name(letters, 'x');
        const std::vector<TensorInfo> tensors = {{name, "U8", {3}, 0, 3}};
        const std::string header = safetensors_header_text(tensors, {});
        CHECK(header.size() % 8 == 0);
        const std::string json = R"({")" + name + R"(":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})";
        CHECK(header.starts_with(json));
        CHECK(header.find_first_not_of(' ', json.size()) == std::string::npos);

        SafetensorsWriter file(folder / "f", header.size());  // exactly what is needed
        file.begin(name, "U8", {3});
        file.write(std::as_bytes(std::span("abc", 3)));
        CHECK(file.file_bytes() == 8 + header.size() + 3);
        file.commit();
        const std::string written = read_file(folder / "f");
        CHECK(header_length(written) == header.size());
        CHECK(written.substr(8) == header + "abc");
    }
}

TEST_CASE("room that the header does not need is filled with spaces", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    SafetensorsWriter file(folder / "f", 1001);
    file.commit();
    const std::string written = read_file(folder / "f");
    CHECK(header_length(written) == 1008);
    CHECK(written.substr(8) == "{}" + std::string(1006, ' '));
    CHECK(SafetensorsReader(folder / "f").tensors().empty());
}

TEST_CASE("names and metadata come back as they were", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    const std::vector<std::string> names = {"",
                                            "plain",
                                            "quote\"",
                                            "back\\slash",
                                            "new\nline",
                                            std::string("zero\0byte", 9),
                                            "\x01\x1f\x7f",
                                            "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                                            "a/b.c",
                                            "dtype"};
    std::map<std::string, std::string> metadata;
    for (const std::string& name : names) metadata[name] = name;
    SafetensorsWriter file(folder / "f", 4096);
    for (std::size_t i = 0; i < names.size(); ++i) {
        file.begin(names[i], "U8", {1});
        file.write(std::as_bytes(std::span(&"0123456789"[i], 1)));
    }
    file.commit(metadata);
    const SafetensorsReader back(folder / "f");
    CHECK(back.metadata() == metadata);
    REQUIRE(back.tensors().size() == names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
        CHECK(back.tensors()[i].name == names[i]);
        CHECK(text_of(back.bytes(back.tensor(names[i]))) == std::string(1, "0123456789"[i]));
    }
}

TEST_CASE("scalars, empty tensors, unknown types, data in pieces", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    SafetensorsWriter file(folder / "f", 4096);
    file.begin("scalar", "F32", {});
    file.write(bytes_of(std::vector<float>{1.5F}));
    file.begin("empty", "F64", {0, 7});
    file.begin("codes", "F4", {3, 3});
    file.write(std::as_bytes(std::span("ab", 2)));
    file.write({});
    file.write(std::as_bytes(std::span("cde", 3)));
    file.commit();
    const SafetensorsReader back(folder / "f");
    CHECK(back.tensor("scalar").shape.empty());
    CHECK(back.tensor("empty").shape == std::vector<std::uint64_t>{0, 7});
    CHECK(text_of(back.bytes(back.tensor("codes"))) == "abcde");
    CHECK(back.tensor("codes").dtype == "F4");
}

TEST_CASE("what cannot be written is refused, and nothing is left", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    {
        SafetensorsWriter file(folder / "f", 4096);
        const auto begin = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
            return message_of<ValueError>([&] { file.begin(name, "F32", shape); });
        };
        CHECK(mentions(message_of<ShapeError>([&] { file.write(std::as_bytes(std::span("x", 1))); }),
                       {"f'", "before a tensor"}));
        CHECK(mentions(begin("__metadata__", {1}), {"f'", "'__metadata__'"}));
        CHECK(mentions(begin("deep", std::vector<std::uint64_t>(65, 1)), {"'deep'", "65 dimensions"}));
        file.begin("w", "F32", {2});
        file.write(bytes_of(std::vector<float>{1, 2}));
        CHECK(mentions(begin("w", {1}), {"already", "'w'"}));
        file.begin("short", "F32", {2});
        file.write(bytes_of(std::vector<float>{1}));
        CHECK(mentions(message_of<FormatError>([&] { file.begin("next", "F32", {1}); }),
                       {"tensor 'short'", "size", " 8", " 4"}));
        CHECK(mentions(message_of<FormatError>([&] { file.commit(); }), {"tensor 'short'", "size"}));
    }
    {
        SafetensorsWriter file(folder / "f", 4096);
        file.begin("\xff", "U8", {0});
        CHECK(mentions(message_of<ValueError>([&] { file.commit(); }), {"UTF-8"}));
    }
    {
        SafetensorsWriter file(folder / "f", 8);
        file.begin("w", "U8", {0});
        CHECK(mentions(message_of<ValueError>([&] { file.commit(); }), {"header takes", "8 were reserved"}));
    }
    CHECK(
        mentions(message_of<ValueError>([&] { SafetensorsWriter(folder / "f", SafetensorsLimits::kHeaderBytes + 1); }),
                 {"limit", "100000000"}));
    CHECK(folder.names().empty());
}

TEST_CASE("nothing is under the name before the commit, the old file until then", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    {
        SafetensorsWriter file(folder / "f", 64);
        CHECK_FALSE(fs::exists(folder / "f"));
        CHECK(folder.names().size() == 1);  // the temporary file
    }
    CHECK(folder.names().empty());
    write_file(folder / "f", "old");
    {
        SafetensorsWriter file(folder / "f", 64);
        file.begin("w", "U8", {2});
        file.write(std::as_bytes(std::span("ab", 2)));
    }
    CHECK(read_file(folder / "f") == "old");
    SafetensorsWriter file(folder / "f", 64);
    CHECK(read_file(folder / "f") == "old");
    file.commit();
    CHECK(read_file(folder / "f") != "old");
    CHECK(folder.names() == std::set<std::string>{"f"});
}

TEST_CASE("two writers of one target do not meet", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    write_vectors(folder / "f", {{"old", {0}}});
    {
        SafetensorsWriter first(folder / "f", 128);
        SafetensorsWriter second(folder / "f", 128);
        first.begin("first", "U8", {0});
        second.begin("second", "U8", {0});
        first.commit();
        CHECK(SafetensorsReader(folder / "f").find("first") != nullptr);
        second.commit();
    }
    CHECK(SafetensorsReader(folder / "f").find("second") != nullptr);
    CHECK(folder.names() == std::set<std::string>{"f"});
}

TEST_CASE("a name of the longest length that the file system allows", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    const std::string name(255, 'n');
    write_vectors(folder / name, {{"w", {1}}});
    CHECK(SafetensorsReader(folder / name).find("w") != nullptr);
}

TEST_CASE("a disk that is full", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    write_file(folder / "f", "old");
    const std::vector<float> values(4096, 1.0F);  // 16 KiB
    SECTION("in the middle of the data") {
        SafetensorsWriter file(folder / "f", 64);
        file.begin("w", "F32", {values.size()});
        const FileSizeLimit limit(8192);  // the first half is written: a short write
        CHECK(mentions(message_of<IoError>([&] { file.write(bytes_of(values)); }),
                       {"f'", "cannot write", "File too large"}));
    }
    SECTION("at the header, which comes last") {
        SafetensorsWriter file(folder / "f", 64);
        const FileSizeLimit limit(8);
        CHECK(mentions(message_of<IoError>([&] { file.commit(); }), {"f'", "cannot write", "File too large"}));
    }
    CHECK(read_file(folder / "f") == "old");
    CHECK(folder.names() == std::set<std::string>{"f"});
}

TEST_CASE("targets that no file can take the place of", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    fs::create_directory(folder / "sub");
    const auto refusal = [](const fs::path& path) { return message_of<IoError>([&] { SafetensorsWriter(path, 64); }); };
    CHECK(mentions(refusal(folder / "none/f"), {"none/f'", "No such file"}));
    CHECK(mentions(refusal(folder / "sub"), {"sub'", "not a regular file"}));
    CHECK(mentions(refusal("/dev/full"), {"/dev/full", "not a regular file"}));
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK(mentions(refusal(folder / "pipe"), {"pipe'", "not a regular file"}));
    CHECK(folder.names() == std::set<std::string>{"pipe", "sub"});
    if (::geteuid() == 0) return;  // the superuser writes everywhere
    fs::permissions(folder / "sub", fs::perms::owner_read | fs::perms::owner_exec);
    CHECK(mentions(refusal(folder / "sub/f"), {"sub/f'", "Permission denied"}));
    fs::permissions(folder / "sub", fs::perms::owner_all);
}

TEST_CASE("a folder removed meanwhile is reported at the commit", "[checkpoint][writer]") {
    const TemporaryFolder folder;
    fs::create_directory(folder / "sub");
    SafetensorsWriter file(folder / "sub/f", 64);
    fs::remove_all(folder / "sub");
    CHECK(mentions(message_of<IoError>([&] { file.commit(); }), {"f'", "cannot rename", "No such file"}));
}
