// generate - text to tokens and back, as the `tokenizers` library does it for byte-level BPE.
// SPDX-License-Identifier: MIT
//
//     engine::Tokenizer tokenizer("SmolLM2-135M-Instruct");
//     std::vector<engine::Token> ids = tokenizer.encode("Hello, world", engine::Frame::added);
//     std::string text = tokenizer.decode(ids);
#pragma once

#include "added_tokens.hpp"
#include "bpe.hpp"
#include "json_fields.hpp"
#include "pre_tokenizer.hpp"

#include <lowrank/checkpoint/mapped_file.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace engine {

/// Whether the tokens that the tokenizer puts around a text, such as its beginning's, are added.
enum class Frame : bool { none, added };

class Tokenizer {
public:
    /// From FOLDER/tokenizer.json. Throws IoError if it cannot be read, FormatError that names the field if it is
    /// malformed or asks for what is not supported.
    explicit Tokenizer(const std::filesystem::path& folder);

    /// Special tokens in the text become themselves. Throws ValueError, saying where, if it is not UTF-8.
    [[nodiscard]] std::vector<Token> encode(std::string_view text, Frame frame);
    /// The text of tokens, well-formed whatever they are; special tokens are left out unless wanted.
    [[nodiscard]] std::string decode(std::span<const Token> tokens, bool with_special = false) const;

    /// The bytes of a token: not well-formed text on its own. Empty for an id that has no token.
    [[nodiscard]] std::string_view bytes(Token token) const;
    [[nodiscard]] bool is_special(Token token) const { return added_.is_special(token); }
    [[nodiscard]] std::optional<Token> find(const std::string& token) const;
    /// One more than the largest id.
    [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(bytes_.size()); }

private:
    explicit Tokenizer(Fields fields);

    static Bpe make_bpe(Fields model);
    static bool is_nfc(Fields& fields);
    void add_frame(Fields processor);

    Bpe bpe_;
    bool nfc_ = false;
    PreTokenizer pre_tokenizer_;
    AddedTokens added_;
    std::vector<Token> before_, after_;  // the frame
    std::vector<std::string> bytes_;
};

/// From FOLDER/tokenizer.json. Throws as the constructor does, and FormatError for tokens beyond the model's
/// vocabulary.
Tokenizer load_tokenizer(const std::filesystem::path& folder, std::int64_t vocabulary);

/// The tokens of a text file. Throws ValueError that names the file if it is not UTF-8.
std::vector<Token> encode_file(Tokenizer& tokenizer, const lowrank::MappedFile& file, Frame frame);

}  // namespace engine
