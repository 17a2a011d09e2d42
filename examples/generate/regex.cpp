// generate - regular expressions by PCRE2.
// SPDX-License-Identifier: MIT
#include "regex.hpp"

#include <lowrank/error.hpp>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>

namespace engine {

namespace {

std::string message_of(int error) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(error, text, sizeof(text));
    return reinterpret_cast<const char*>(text);
}

}  // namespace

void Regex::Free::operator()(pcre2_code* code) const {
    pcre2_code_free(code);
}
void Regex::Free::operator()(pcre2_match_data* match) const {
    pcre2_match_data_free(match);
}

Regex::Regex(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                              &error, &offset, nullptr));
    if (!code_) {
        throw lowrank::ValueError("the pattern '" + pattern + "' is wrong at byte " + std::to_string(offset) + ": " +
                                  message_of(error));
    }
    static_cast<void>(pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE));  // where it fails, it is only slower
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    if (!match_) throw std::bad_alloc();
}

std::optional<std::pair<std::size_t, std::size_t>> Regex::find(std::string_view text, std::size_t from) const {
    const int status = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                   PCRE2_NO_UTF_CHECK, match_.get(), nullptr);
    if (status == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (status < 0) throw lowrank::ValueError("a text cannot be split into words: " + message_of(status));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_.get());
    return std::pair(bounds[0], bounds[1]);
}

}  // namespace engine
