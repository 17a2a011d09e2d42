// generate - tokens that are found in a text as they are, before it is cut into words: special ones and runs of spaces.
// SPDX-License-Identifier: MIT
#pragma once

#include "bpe.hpp"
#include "json_fields.hpp"

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace engine {

class AddedTokens {
public:
    struct Entry {
        Token id;
        std::string content;
        bool special;
    };
    /// A part of a text: a token, or text without one.
    struct Part {
        std::string_view text;
        Token id;  ///< or kNone
    };
    static constexpr Token kNone = -1;

    AddedTokens() = default;
    /// From tokenizer.json's "added_tokens". `normalize` is what the tokenizer does to a text. Throws FormatError.
    AddedTokens(Fields& fields, const std::function<std::string(std::string)>& normalize);

    /// Cuts at tokens that are looked for in the text as given, or in the normalised text.
    [[nodiscard]] std::vector<Part> split(std::string_view text, bool normalized) const;

    [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
    [[nodiscard]] bool is_special(Token token) const { return special_.count(token) != 0; }

private:
    struct Pattern {
        std::string text;
        Token id;
        bool strip_left, strip_right;  ///< take the white space beside it
    };
    /// By first byte; the longest first.
    using Patterns = std::vector<std::vector<Pattern>>;

    std::vector<Entry> entries_;
    std::unordered_set<Token> special_;
    Patterns raw_ = Patterns(256);
    Patterns normalized_ = Patterns(256);
};

}  // namespace engine
