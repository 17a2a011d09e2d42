// generate - the steps of a pre-tokenizer.
// SPDX-License-Identifier: MIT
#include "pre_tokenizer.hpp"

#include <lowrank/error.hpp>

#include <cstddef>
#include <utility>

namespace engine {

namespace {

// GPT-2's words (Radford et al. 2019). White space is spelt out: PCRE2's \s has U+180E, which Unicode took out.
constexpr const char* kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\t-\r\x{85}\p{Z}\p{L}\p{N}]+)"
                                   R"(|[\t-\r\x{85}\p{Z}]+(?![^\t-\r\x{85}\p{Z}])|[\t-\r\x{85}\p{Z}]+)";

/// Characters that a regular expression would take for its own, escaped.
std::string literal(const std::string& text) {
    std::string pattern;
    for (const char c : text) {
        if (std::string_view("\\^$.[]|()?*+{}-#").find(c) != std::string_view::npos) pattern += '\\';
        pattern += c;
    }
    return pattern;
}

}  // namespace

PreTokenizer::PreTokenizer(Fields fields) {
    add(std::move(fields));
}

void PreTokenizer::add(Fields fields) {
    const std::string type = fields.text("type");
    if (type == "Sequence") {
        const Json& steps = fields.array("pretokenizers");
        for (std::size_t i = 0; i < steps.size(); ++i) add(fields.item("pretokenizers", steps[i], i));
    } else if (type == "ByteLevel") {
        Step& step = steps_.emplace_back();
        step.prefix_space = fields.flag_or("add_prefix_space", true);
        if (fields.flag_or("use_regex", true)) step.pattern.emplace_back(kGpt2Words);
    } else if (type == "Digits") {
        steps_.emplace_back().pattern.emplace_back(fields.flag_or("individual_digits", false) ? "\\p{N}" : "\\p{N}+");
    } else if (type == "Split") {
        add_split(fields);
    } else {
        fields.unsupported("type", "there are Sequence, ByteLevel, Digits and Split");
    }
}

void PreTokenizer::add_split(Fields& fields) {
    Fields pattern = fields.object("pattern");
    const bool is_regex = pattern.find("Regex") != nullptr;
    const bool inverted = fields.flag_or("invert", false);
    const std::string behavior = fields.text("behavior");
    if (behavior != "Isolated" && !(behavior == "Removed" && inverted)) {
        fields.unsupported("behavior", "there are Isolated, and Removed with invert");
    }
    Step& step = steps_.emplace_back();
    step.keep_rest = behavior == "Isolated";
    try {
        step.pattern.emplace_back(is_regex ? pattern.text("Regex") : literal(pattern.text("String")));
    } catch (const lowrank::ValueError& error) {
        throw lowrank::FormatError(pattern.subject("Regex") + ": " + error.what());
    }
}

std::vector<std::string> PreTokenizer::split(std::string text) const {
    std::vector<std::string> pieces;
    if (!text.empty()) pieces.push_back(std::move(text));
    for (const Step& step : steps_) {
        std::vector<std::string> cut;
        for (std::string& piece : pieces) {
            if (step.prefix_space && piece.front() != ' ') piece.insert(piece.begin(), ' ');
            if (step.pattern.empty()) {
                cut.push_back(std::move(piece));
                continue;
            }
            std::size_t end = 0;
            const auto rest_until = [&](std::size_t begin) {
                if (step.keep_rest && begin > end) cut.push_back(piece.substr(end, begin - end));
            };
            std::size_t from = 0;
            while (const auto match = step.pattern.front().find(piece, from)) {
                if (match->second == match->first) {  // an empty match cuts nothing
                    if (match->first >= piece.size()) break;
                    from = match->first + 1;
                    while (from < piece.size() && (static_cast<unsigned char>(piece[from]) & 0xC0U) == 0x80U) ++from;
                    continue;
                }
                rest_until(match->first);
                cut.push_back(piece.substr(match->first, match->second - match->first));
                from = end = match->second;
            }
            rest_until(piece.size());
        }
        pieces = std::move(cut);
    }
    return pieces;
}

}  // namespace engine
