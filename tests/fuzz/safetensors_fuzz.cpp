// Whatever the bytes, reading them as a safetensors file ends in tensors that lie inside it or in a lowrank::Error.
// SPDX-License-Identifier: MIT
//
// As a fuzz target:   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -DLOWRANK_LIBFUZZER -Iinclude ...
// As a plain program: safetensors_fuzz FOLDER... runs every file below the folders, the prefixes of each, and copies
// of each with a few bytes changed.
#include <lowrank/checkpoint/dtype.hpp>
#include <lowrank/checkpoint/safetensors_header.hpp>
#include <lowrank/checkpoint/safetensors_writer.hpp>
#include <lowrank/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

void require(bool held, const char* what) {
    if (held) return;
    std::fprintf(stderr, "safetensors_fuzz: %s\n", what);
    std::abort();
}

void check(std::span<const std::byte> file) {
    using namespace lowrank;
    SafetensorsHeader header;
    try {
        header = parse_safetensors_header(file, "fuzzed");
    } catch (const Error& error) {
        require(std::string(error.what()).find('\n') == std::string::npos, "a message of several lines");
        return;
    }
    require(header.data_begin <= file.size(), "data that begins behind the end");
    std::uint64_t end = 0;
    for (const TensorInfo& tensor : header.tensors) {
        require(tensor.begin == end && tensor.end >= tensor.begin, "tensors that do not tile the data");
        const std::size_t size = dtype_size(tensor.dtype);
        require(size == 0 || tensor.elements() * size == tensor.bytes(), "a shape that is not that of the bytes");
        end = tensor.end;
    }
    require(end == file.size() - header.data_begin, "bytes that belong to no tensor");

    // What was read can be written and is then read the same.
    const std::string text = safetensors_header_text(header.tensors, header.metadata);
    const std::uint64_t length = text.size();
    if (length > SafetensorsLimits::kHeaderBytes) return;
    std::string again(reinterpret_cast<const char*>(&length), sizeof(length));
    again += text;
    again.append(static_cast<std::size_t>(end), '\0');
    const SafetensorsHeader back = parse_safetensors_header(std::as_bytes(std::span(again)), "again");
    require(back.metadata == header.metadata && back.tensors.size() == header.tensors.size(), "a different rewriting");
    for (std::size_t i = 0; i < back.tensors.size(); ++i) {
        const TensorInfo& a = header.tensors[i];
        const TensorInfo& b = back.tensors[i];
        require(a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.end == b.end, "a changed tensor");
    }
}

}  // namespace

#ifdef LOWRANK_LIBFUZZER

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    check(std::as_bytes(std::span(data, size)));
    return 0;
}

#else

namespace {

constexpr int kChanged = 2000;      // copies of each file; a second or two for the whole corpus
constexpr std::size_t kEnd = 8192;  // headers of the corpus end before it

/// A copy in a heap block of its exact size, so that AddressSanitizer sees a read beyond it.
void check_copy(std::span<const std::byte> file) {
    const std::vector<std::byte> copy(file.begin(), file.end());
    check(copy);
}

void check_variants(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    const auto file = std::as_bytes(std::span(text));
    check_copy(file);
    const std::size_t end = std::min(file.size(), kEnd);
    for (std::size_t size = 0; size < end; size += 1 + size / 64) check_copy(file.first(size));
    if (end == 0) return;

    std::mt19937 random(1);
    constexpr char kTelling[] = "{}[]\",:-.e0123456789 \\\x00\x7f\x80\xff";
    for (int i = 0; i < kChanged; ++i) {
        std::vector<std::byte> copy(file.begin(), file.end());
        for (std::uint32_t changes = 1 + random() % 4; changes > 0; --changes) {
            const std::size_t at = random() % end;
            const std::size_t length = std::min<std::size_t>(random() % 16, copy.size() - std::min(at, copy.size()));
            const auto place = copy.begin() + static_cast<std::ptrdiff_t>(std::min(at, copy.size()));
            switch (random() % 4) {
                case 0:
                    if (place != copy.end()) *place = static_cast<std::byte>(random());
                    break;
                case 1:
                    if (place != copy.end()) {
                        *place = static_cast<std::byte>(kTelling[random() % (sizeof(kTelling) - 1)]);
                    }
                    break;
                case 2: copy.erase(place, place + static_cast<std::ptrdiff_t>(length)); break;
                default: {
                    const std::vector<std::byte> piece(place, place + static_cast<std::ptrdiff_t>(length));
                    copy.insert(place, piece.begin(), piece.end());
                }
            }
        }
        // The length before the header follows what became of it, or else most copies fail there.
        if (i % 2 == 0 && copy.size() >= 8 && file.size() >= 8) {
            std::uint64_t length = 0;
            std::memcpy(&length, file.data(), sizeof(length));
            length += copy.size() - file.size();
            std::memcpy(copy.data(), &length, sizeof(length));
        }
        check(copy);
    }
}

}  // namespace

int main(int argc, char** argv) {
    int files = 0;
    for (int i = 1; i < argc; ++i) {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
            if (!entry.is_regular_file()) continue;
            check_variants(entry.path());
            ++files;
        }
    }
    std::printf("%d files\n", files);
    return files > 0 ? 0 : 1;
}

#endif
