// generate - cuts a text into the pieces that byte pair encoding does not cross.
// SPDX-License-Identifier: MIT
#pragma once

#include "json_fields.hpp"
#include "regex.hpp"

#include <string>
#include <vector>

namespace engine {

/// The steps of tokenizer.json's "pre_tokenizer": ByteLevel, Digits, Split by a pattern, and sequences of them.
class PreTokenizer {
public:
    /// No step: the text is one piece.
    PreTokenizer() = default;
    /// Throws FormatError for a step that is malformed or not supported.
    explicit PreTokenizer(Fields fields);

    /// The pieces of `text`, in order; none is empty.
    [[nodiscard]] std::vector<std::string> split(std::string text) const;

private:
    struct Step {
        bool prefix_space = false;   // put a space before a piece that begins with none
        std::vector<Regex> pattern;  // one, or none for no cutting
        bool keep_rest = true;       // what the pattern does not match is a piece too
    };

    void add(Fields fields);
    void add_split(Fields& fields);

    std::vector<Step> steps_;
};

}  // namespace engine
