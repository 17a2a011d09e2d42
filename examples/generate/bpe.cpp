// generate - byte pair encoding.
// SPDX-License-Identifier: MIT
#include "bpe.hpp"

#include "utf8.hpp"

#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/error.hpp>

#include <array>
#include <queue>
#include <tuple>

namespace engine {

namespace {

/// GPT-2's table: printable characters of Latin-1 name themselves, all others U+0100 and up, in order.
std::array<std::int32_t, 256> make_symbols() {
    std::array<std::int32_t, 256> symbols{};
    std::int32_t next = 0x100;
    for (std::int32_t byte = 0; byte < 256; ++byte) {
        const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        symbols[static_cast<std::size_t>(byte)] = printable ? byte : next++;
    }
    return symbols;
}

const std::array<std::int32_t, 256> kSymbols = make_symbols();

const std::unordered_map<std::int32_t, char> kBytes = [] {
    std::unordered_map<std::int32_t, char> bytes;
    for (std::size_t byte = 0; byte < kSymbols.size(); ++byte) bytes.emplace(kSymbols[byte], static_cast<char>(byte));
    return bytes;
}();

}  // namespace

std::string byte_symbols(std::string_view bytes) {
    std::string symbols;
    for (const char byte : bytes) append_character(symbols, kSymbols[static_cast<unsigned char>(byte)]);
    return symbols;
}

std::string symbol_bytes(const std::string& symbols) {
    std::string bytes;
    std::int32_t code = 0;
    for (std::size_t at = 0; at < symbols.size();) {
        const std::size_t length = next_character(std::string_view(symbols).substr(at), code);
        const auto found = kBytes.find(code);
        if (length == 0 || found == kBytes.end()) return symbols;
        bytes += found->second;
        at += length;
    }
    return bytes;
}

Bpe::Bpe(std::unordered_map<std::string, Token> vocabulary,
         const std::vector<std::pair<std::string, std::string>>& merges, Options options)
    : vocabulary_(std::move(vocabulary)), byte_tokens_(256), options_(options) {
    for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
        const char bytes[] = {static_cast<char>(byte)};
        const auto found = vocabulary_.find(byte_symbols({bytes, 1}));
        if (found != vocabulary_.end()) byte_tokens_[byte] = found->second;
    }
    const auto token = [&](const std::string& symbols) {
        const auto found = vocabulary_.find(symbols);
        if (found != vocabulary_.end()) return found->second;
        throw lowrank::ValueError(lowrank::detail::name_text(symbols) + " is not in the vocabulary");
    };
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
        const auto& [left, right] = merges[rank];
        try {
            const Token first = token(left);
            const Token second = token(right);
            merges_.insert_or_assign(key(first, second), Merge{static_cast<std::int32_t>(rank), token(left + right)});
        } catch (const lowrank::ValueError& error) {
            throw lowrank::ValueError("merge " + std::to_string(rank + 1) + " of " + lowrank::detail::name_text(left) +
                                      " and " + lowrank::detail::name_text(right) + ": " + error.what());
        }
    }
}

void Bpe::encode(std::string_view piece, std::vector<Token>& out) {
    constexpr std::size_t kEntries = 10'000;  // words repeat: most of a text is found here
    std::string text(piece);
    auto found = cache_.find(text);
    if (found == cache_.end()) {
        std::vector<Token> tokens;
        const auto whole = options_.ignore_merges ? vocabulary_.find(byte_symbols(piece)) : vocabulary_.end();
        if (whole != vocabulary_.end()) {
            tokens.push_back(whole->second);
        } else {
            tokens = merged(initial(piece));
        }
        if (cache_.size() >= kEntries) cache_.clear();
        found = cache_.emplace(std::move(text), std::move(tokens)).first;
    }
    out.insert(out.end(), found->second.begin(), found->second.end());
}

std::vector<Token> Bpe::initial(std::string_view piece) const {
    std::vector<Token> tokens;
    bool after_unknown = false;
    for (const char byte : piece) {
        const std::optional<Token> token = byte_tokens_[static_cast<unsigned char>(byte)];
        if (token) {
            tokens.push_back(*token);
        } else if (options_.unknown && !(after_unknown && options_.fuse_unknown)) {
            tokens.push_back(*options_.unknown);
        }
        after_unknown = !token;
    }
    return tokens;
}

std::vector<Token> Bpe::merged(const std::vector<Token>& initial) const {
    struct Symbol {
        Token token;
        std::size_t before, after;  // its neighbours; the size of the list for none
        bool gone;
    };
    const std::size_t none = initial.size();
    std::vector<Symbol> symbols;
    for (std::size_t i = 0; i < none; ++i) symbols.push_back({initial[i], i == 0 ? none : i - 1, i + 1, false});

    using Candidate = std::tuple<std::int32_t, std::size_t, Token>;  // rank, place of the left symbol, result
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
    const auto consider = [&](std::size_t left) {
        if (left == none || symbols[left].after == none) return;
        const auto merge = merges_.find(key(symbols[left].token, symbols[symbols[left].after].token));
        if (merge != merges_.end()) candidates.emplace(merge->second.rank, left, merge->second.result);
    };
    for (std::size_t i = 0; i < none; ++i) consider(i);
    while (!candidates.empty()) {
        const auto [rank, left, result] = candidates.top();
        candidates.pop();
        if (symbols[left].gone || symbols[left].after == none) continue;
        Symbol& right = symbols[symbols[left].after];
        const auto merge = merges_.find(key(symbols[left].token, right.token));
        if (merge == merges_.end() || merge->second.result != result) continue;  // one of the two has changed
        symbols[left].token = result;
        symbols[left].after = right.after;
        right.gone = true;
        if (right.after != none) symbols[right.after].before = left;
        consider(symbols[left].before);
        consider(left);
    }
    std::vector<Token> tokens;
    for (const Symbol& symbol : symbols) {
        if (!symbol.gone) tokens.push_back(symbol.token);
    }
    return tokens;
}

}  // namespace engine
