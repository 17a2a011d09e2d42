// generate - regular expressions with Unicode properties, by PCRE2.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace engine {

/// Not for several threads at a time: it owns the memory of its last match.
class Regex {
public:
    /// Throws ValueError, with what is wrong and where, if `pattern` is malformed.
    explicit Regex(const std::string& pattern);

    /// Begin and end of the first match at or after byte `from` of `text`, which must be UTF-8 and may be looked at
    /// from its beginning. Throws ValueError if the search exceeds PCRE2's limits.
    [[nodiscard]] std::optional<std::pair<std::size_t, std::size_t>> find(std::string_view text,
                                                                          std::size_t from) const;

private:
    struct Free {
        void operator()(pcre2_real_code_8* code) const;
        void operator()(pcre2_real_match_data_8* match) const;
    };
    std::unique_ptr<pcre2_real_code_8, Free> code_;
    std::unique_ptr<pcre2_real_match_data_8, Free> match_;
};

}  // namespace engine
