// What the programs' command lines share: checks of values whose messages fit on a line.
#pragma once

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace command_line {

namespace detail {

/// CLI11's own ranges let NaN pass, and print bounds of 309 digits.
template <class T>
CLI::Validator in_range(T least, T most, const std::string& expected, const std::string& name) {
    return CLI::Validator(
        [=](std::string& text) {
            T value{};
            const bool parsed = CLI::detail::lexical_cast(text, value);
            const bool inside = parsed && value >= least && value <= most;  // NaN is not
            return inside && !text.empty() ? std::string() : "'" + text + "' is not " + expected;
        },
        name);
}

}  // namespace detail

inline CLI::Validator at_least(std::int64_t least) {
    return detail::in_range<std::int64_t>(least, INT64_MAX, "a whole number of at least " + std::to_string(least), "");
}

inline CLI::Validator within(std::int64_t least, std::int64_t most) {
    return detail::in_range<std::int64_t>(
        least, most, "a whole number from " + std::to_string(least) + " to " + std::to_string(most), "");
}

inline CLI::Validator number_within(double least, double most, const std::string& expected) {
    return detail::in_range<double>(least, most, expected, "");
}

/// Far more than a machine has; each takes memory.
inline CLI::Validator thread_count() {
    return within(0, 1024);
}

/// One of a few words, each of which stands for a value.
template <class T>
CLI::Validator one_of(std::vector<std::pair<std::string, T>> words) {
    std::string list;
    for (const auto& [word, value] : words) list += (list.empty() ? "" : "|") + word;
    return CLI::Validator(
        [=](std::string& text) {
            for (const auto& [word, value] : words) {
                if (text != word) continue;
                text = std::to_string(static_cast<int>(value));
                return std::string();
            }
            return "'" + text + "' is not one of " + list;
        },
        list);
}

}  // namespace command_line
