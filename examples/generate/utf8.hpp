// generate - UTF-8: validity, code points, and text that arrives in pieces.
// SPDX-License-Identifier: MIT
#pragma once

#include <utf8proc.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace engine {

/// Bytes of the character that `text` begins with, or 0 if it begins with none. `code` becomes the character.
inline std::size_t next_character(std::string_view text, std::int32_t& code) {
    utf8proc_int32_t found = -1;
    const auto size = static_cast<utf8proc_ssize_t>(text.size());
    const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), size, &found);
    code = found;
    return bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
}

/// Bytes of the longest prefix of well-formed characters.
inline std::size_t valid_prefix(std::string_view text) {
    std::size_t at = 0;
    std::int32_t code = 0;
    while (at < text.size()) {
        const std::size_t bytes = next_character(text.substr(at), code);
        if (bytes == 0) break;
        at += bytes;
    }
    return at;
}

inline void append_character(std::string& text, std::int32_t code) {
    utf8proc_uint8_t bytes[4];
    const auto count = utf8proc_encode_char(code, bytes);
    text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count));
}

/// Turns bytes that arrive in any pieces into well-formed text: what is not well-formed becomes U+FFFD, once for each
/// longest run of bytes that could have begun a character (Unicode 15, section 3.9).
class Utf8Stream {
public:
    /// The text that is certain so far; the beginning of a character waits for its end.
    std::string add(std::string_view bytes) {
        pending_ += bytes;
        return take(false);
    }
    /// The rest.
    std::string finish() { return take(true); }

private:
    static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

    std::string take(bool all) {
        std::string text;
        while (!pending_.empty()) {
            const std::size_t valid = valid_prefix(pending_);
            text += pending_.substr(0, valid);
            pending_.erase(0, valid);
            if (pending_.empty()) break;
            const std::size_t begun = beginning(pending_);
            if (begun == pending_.size() && !all) break;
            text += kReplacement;
            pending_.erase(0, begun);
        }
        return text;
    }

    /// Bytes at the front of `text`, which begins with no character, that one could begin with; at least 1.
    static std::size_t beginning(std::string_view text) {
        const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
        const unsigned first = byte(0);
        const std::size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                                   : first >= 0xE0 && first <= 0xEF ? 3
                                   : first >= 0xF0 && first <= 0xF4 ? 4
                                                                    : 1;
        // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
        const unsigned least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        const unsigned most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        std::size_t count = 1;
        while (count < length && count < text.size() && byte(count) >= (count == 1 ? least : 0x80U) &&
               byte(count) <= (count == 1 ? most : 0xBFU)) {
            ++count;
        }
        return count;
    }

    std::string pending_;
};

}  // namespace engine
