// generate - reads tokenizer.json, and puts its parts in order.
// SPDX-License-Identifier: MIT
#include "tokenizer.hpp"

#include "utf8.hpp"

#include <lowrank/error.hpp>

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <unordered_map>
#include <utility>

namespace engine {

namespace {

/// Unicode's normal form C.
std::string compose(const std::string& text) {
    struct Free {
        void operator()(utf8proc_uint8_t* memory) const { std::free(memory); }
    };
    utf8proc_uint8_t* result = nullptr;
    const auto size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                     &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, Free> owner(result);
    if (size == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
    if (size < 0) throw lowrank::ValueError(std::string("a text cannot be normalised: ") + utf8proc_errmsg(size));
    return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)};
}

std::pair<std::string, std::string> merge_parts(const Fields& model, const Json& merge) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    }
    const std::string text = model.text("merges", merge);
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        throw lowrank::FormatError(model.subject("merges") + ": " + lowrank::detail::name_text(text) +
                                   " is not a pair of tokens");
    }
    return {text.substr(0, space), text.substr(space + 1)};
}

}  // namespace

bool Tokenizer::is_nfc(Fields& fields) {
    if (fields.find("normalizer") == nullptr) return false;
    Fields normalizer = fields.object("normalizer");
    if (normalizer.text("type") != "NFC") normalizer.unsupported("type", "only NFC is");
    return true;
}

Bpe Tokenizer::make_bpe(Fields model) {
    if (model.text_or("type", "BPE") != "BPE") model.unsupported("type", "only BPE is");
    if (model.find("dropout") != nullptr) model.unsupported("dropout", "only null is");
    if (model.flag_or("byte_fallback", false)) model.unsupported("byte_fallback", "only false is");
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        if (!model.text_or(affix, "").empty()) model.unsupported(affix, "only null is");
    }
    const Json& entries = model.at("vocab");
    if (!entries.is_object()) static_cast<void>(model.object("vocab"));  // throws
    std::unordered_map<std::string, Token> vocabulary;
    for (const auto& [symbols, id] : entries.items()) {
        vocabulary.emplace(symbols, static_cast<Token>(model.whole("vocab." + symbols, id, 0)));
    }
    std::vector<std::pair<std::string, std::string>> merges;
    for (const Json& merge : model.array("merges")) merges.push_back(merge_parts(model, merge));
    Bpe::Options options;
    options.fuse_unknown = model.flag_or("fuse_unk", false);
    options.ignore_merges = model.flag_or("ignore_merges", false);
    if (model.find("unk_token") != nullptr) {
        const auto unknown = vocabulary.find(model.text("unk_token"));
        if (unknown == vocabulary.end()) model.unsupported("unk_token", "it is not in the vocabulary");
        options.unknown = unknown->second;
    }
    try {
        return Bpe(std::move(vocabulary), merges, options);
    } catch (const lowrank::ValueError& error) {
        throw lowrank::FormatError(model.subject("merges") + ": " + error.what());
    }
}

void Tokenizer::add_frame(Fields processor) {
    const std::string type = processor.text("type");
    if (type == "ByteLevel") return;  // changes offsets, no tokens
    if (type == "Sequence") {
        const Json& steps = processor.array("processors");
        for (std::size_t i = 0; i < steps.size(); ++i) add_frame(processor.item("processors", steps[i], i));
        return;
    }
    if (type != "TemplateProcessing") {
        processor.unsupported("type", "there are ByteLevel, TemplateProcessing and Sequence");
    }
    Fields special = processor.object("special_tokens");
    const Json& pieces = processor.array("single");
    bool behind = false;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        Fields piece = processor.item("single", pieces[i], i);
        if (piece.find("Sequence") != nullptr) {
            behind = true;
            continue;
        }
        Fields token = special.object(piece.object("SpecialToken").text("id"));
        for (const Json& id : token.array("ids")) {
            (behind ? after_ : before_).push_back(static_cast<Token>(token.whole("ids", id, 0)));
        }
    }
}

Tokenizer::Tokenizer(const std::filesystem::path& folder)
    : Tokenizer(Fields(read_json(folder / "tokenizer.json"), folder / "tokenizer.json")) {}

Tokenizer::Tokenizer(Fields fields) : bpe_(make_bpe(fields.object("model"))), nfc_(is_nfc(fields)) {
    if (fields.find("pre_tokenizer") != nullptr) pre_tokenizer_ = PreTokenizer(fields.object("pre_tokenizer"));
    added_ = AddedTokens(fields, [this](std::string text) { return nfc_ ? compose(text) : text; });
    if (fields.find("post_processor") != nullptr) add_frame(fields.object("post_processor"));
    Fields decoder = fields.object("decoder");
    if (decoder.text("type") != "ByteLevel") decoder.unsupported("type", "only ByteLevel is");

    // Of the ids: a table has a place for each. The largest vocabularies have 2.6e5.
    constexpr Token kMost = (1 << 24) - 1;
    const auto set = [&](Token id, std::string bytes) {
        if (id > kMost) {
            throw lowrank::FormatError(fields.subject("") + ": a token's id is " + std::to_string(id) + ", above " +
                                       std::to_string(kMost));
        }
        if (id >= size()) bytes_.resize(static_cast<std::size_t>(id) + 1);
        bytes_[static_cast<std::size_t>(id)] = std::move(bytes);
    };
    for (const auto& [symbols, id] : bpe_.vocabulary()) set(id, symbol_bytes(symbols));
    for (const AddedTokens::Entry& entry : added_.entries()) set(entry.id, symbol_bytes(entry.content));
}

std::vector<Token> Tokenizer::encode(std::string_view text, Frame frame) {
    if (const std::size_t valid = valid_prefix(text); valid < text.size()) {
        throw lowrank::ValueError("the text is not UTF-8: it is malformed at byte " + std::to_string(valid + 1));
    }
    std::vector<Token> ids;
    if (frame == Frame::added) ids = before_;
    for (const AddedTokens::Part& part : added_.split(text, false)) {
        if (part.id != AddedTokens::kNone) {
            ids.push_back(part.id);
            continue;
        }
        const std::string normal = nfc_ ? compose(std::string(part.text)) : std::string(part.text);
        for (const AddedTokens::Part& inner : added_.split(normal, true)) {
            if (inner.id != AddedTokens::kNone) {
                ids.push_back(inner.id);
            } else {
                for (const std::string& word : pre_tokenizer_.split(std::string(inner.text))) bpe_.encode(word, ids);
            }
        }
    }
    if (frame == Frame::added) ids.insert(ids.end(), after_.begin(), after_.end());
    return ids;
}

std::string_view Tokenizer::bytes(Token token) const {
    return token >= 0 && token < size() ? std::string_view(bytes_[static_cast<std::size_t>(token)])
                                        : std::string_view();
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool with_special) const {
    Utf8Stream stream;
    std::string text;
    for (const Token token : tokens) {
        if (with_special || !is_special(token)) text += stream.add(bytes(token));
    }
    return text + stream.finish();
}

std::optional<Token> Tokenizer::find(const std::string& token) const {
    for (const AddedTokens::Entry& entry : added_.entries()) {
        if (entry.content == token) return entry.id;
    }
    const auto found = bpe_.vocabulary().find(token);
    if (found == bpe_.vocabulary().end()) return std::nullopt;
    return found->second;
}

Tokenizer load_tokenizer(const std::filesystem::path& folder, std::int64_t vocabulary) {
    Tokenizer tokenizer(folder);
    if (tokenizer.size() > vocabulary) {
        throw lowrank::FormatError(lowrank::detail::path_text(folder / "tokenizer.json") + ": has token " +
                                   std::to_string(tokenizer.size() - 1) + ", but config.json a vocabulary of " +
                                   std::to_string(vocabulary));
    }
    return tokenizer;
}

std::vector<Token> encode_file(Tokenizer& tokenizer, const lowrank::MappedFile& file, Frame frame) {
    try {
        return tokenizer.encode(lowrank::detail::file_text(file), frame);
    } catch (const lowrank::ValueError& error) {
        throw lowrank::ValueError(lowrank::detail::path_text(file.path()) + ": " + error.what());
    }
}

}  // namespace engine
