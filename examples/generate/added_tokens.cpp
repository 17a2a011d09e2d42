// generate - finds added tokens in a text.
// SPDX-License-Identifier: MIT
#include "added_tokens.hpp"

#include "utf8.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>

namespace engine {

namespace {

bool is_space(std::int32_t code) {
    const auto category = utf8proc_category(code);
    return (code >= '\t' && code <= '\r') || code == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

/// Where the white space at the end of `text` begins.
std::size_t trailing_space(std::string_view text) {
    std::size_t end = text.size();
    while (end > 0) {
        std::size_t begin = end - 1;
        while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80U) --begin;
        std::int32_t code = 0;
        if (next_character(text.substr(begin), code) == 0 || !is_space(code)) break;
        end = begin;
    }
    return end;
}

/// Where the white space at the beginning of `text` ends.
std::size_t leading_space(std::string_view text) {
    std::size_t at = 0;
    std::int32_t code = 0;
    while (at < text.size()) {
        const std::size_t bytes = next_character(text.substr(at), code);
        if (bytes == 0 || !is_space(code)) break;
        at += bytes;
    }
    return at;
}

}  // namespace

AddedTokens::AddedTokens(Fields& fields, const std::function<std::string(std::string)>& normalize) {
    if (fields.find("added_tokens") == nullptr) return;
    const Json& list = fields.array("added_tokens");
    for (std::size_t i = 0; i < list.size(); ++i) {
        Fields token = fields.item("added_tokens", list[i], i);
        Entry entry{static_cast<Token>(token.whole("id", 0)), token.text("content"), token.flag_or("special", false)};
        if (entry.content.empty()) continue;
        if (token.flag_or("single_word", false)) token.unsupported("single_word", "only false is");
        if (entry.special) special_.insert(entry.id);
        const bool normalized = token.flag_or("normalized", !entry.special);
        Pattern pattern{normalized ? normalize(entry.content) : entry.content, entry.id, token.flag_or("lstrip", false),
                        token.flag_or("rstrip", false)};
        const auto first = static_cast<unsigned char>(pattern.text.front());
        (normalized ? normalized_ : raw_)[first].push_back(std::move(pattern));
        entries_.push_back(std::move(entry));
    }
    for (Patterns* patterns : {&raw_, &normalized_}) {
        for (std::vector<Pattern>& alike : *patterns) {
            std::stable_sort(alike.begin(), alike.end(),
                             [](const Pattern& a, const Pattern& b) { return a.text.size() > b.text.size(); });
        }
    }
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text, bool normalized) const {
    const Patterns& patterns = normalized ? normalized_ : raw_;
    std::vector<Part> parts;
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
        const auto& alike = patterns[static_cast<unsigned char>(text[at])];
        const auto found = std::find_if(alike.begin(), alike.end(), [&](const Pattern& pattern) {
            return text.substr(at, pattern.text.size()) == pattern.text;
        });
        if (found == alike.end()) {
            ++at;
            continue;
        }
        std::size_t begin = at;
        std::size_t end = at + found->text.size();
        if (found->strip_left) begin = done + trailing_space(text.substr(done, at - done));
        if (found->strip_right) end += leading_space(text.substr(end));
        if (begin > done) parts.push_back({text.substr(done, begin - done), kNone});
        parts.push_back({text.substr(begin, end - begin), found->id});
        at = done = end;
    }
    if (done < text.size()) parts.push_back({text.substr(done), kNone});
    return parts;
}

}  // namespace engine
