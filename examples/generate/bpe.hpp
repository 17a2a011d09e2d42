// generate - byte pair encoding (Sennrich et al. 2016) of bytes, in the form of GPT-2.
// SPDX-License-Identifier: MIT
//
// A vocabulary names each byte by a printable character (0x20 is "Ġ"). A piece of text starts as one token for each
// byte; then, again and again, the pair of neighbours that stands first in the list of merges is joined, the leftmost
// first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace engine {

using Token = std::int32_t;

/// The characters that stand for bytes, and back.
std::string byte_symbols(std::string_view bytes);
/// The bytes that `symbols` stands for, or itself if a character in it stands for none.
std::string symbol_bytes(const std::string& symbols);

class Bpe {
public:
    struct Options {
        std::optional<Token> unknown;  ///< for a byte without a token; without this it is dropped
        bool fuse_unknown = false;     ///< one token for a run of such bytes
        bool ignore_merges = false;    ///< a piece that is a token as a whole is not built by merges
    };

    /// Throws ValueError, naming the merge, if one of its parts or its result is not in the vocabulary.
    Bpe(std::unordered_map<std::string, Token> vocabulary,
        const std::vector<std::pair<std::string, std::string>>& merges, Options options);

    /// Appends the tokens of one piece of text. O(n log n).
    void encode(std::string_view piece, std::vector<Token>& out);

    [[nodiscard]] const std::unordered_map<std::string, Token>& vocabulary() const { return vocabulary_; }

private:
    struct Merge {
        std::int32_t rank;
        Token result;
    };

    static std::uint64_t key(Token left, Token right) {
        return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
    }
    [[nodiscard]] std::vector<Token> initial(std::string_view piece) const;
    [[nodiscard]] std::vector<Token> merged(const std::vector<Token>& initial) const;

    std::unordered_map<std::string, Token> vocabulary_;
    std::unordered_map<std::uint64_t, Merge> merges_;
    std::vector<std::optional<Token>> byte_tokens_;
    Options options_;
    std::unordered_map<std::string, std::vector<Token>> cache_;
};

}  // namespace engine
