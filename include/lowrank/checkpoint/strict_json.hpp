// lowrank - JSON files read strictly: no duplicate keys, no bottomless nesting, one clear message.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/checkpoint/mapped_file.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/error.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace lowrank::detail {

/// Parses `text`; `file` names it in messages. Keys keep their order, or with nlohmann::json as `Json`, which alone is
/// fast for objects of many keys, are sorted. Throws FormatError for what is not JSON, for a key that comes twice in
/// one object (which JSON libraries usually pass over in silence), and for nesting deeper than 64 levels.
template <class Json = nlohmann::ordered_json>
Json parse_strict_json(std::string_view text, const std::filesystem::path& file) {
    constexpr std::size_t kDepth = 64;
    std::vector<std::unordered_set<std::string>> keys;  // of each object or array that is open
    const auto check = [&](int /*depth*/, typename Json::parse_event_t event, Json& parsed) {
        switch (event) {
            case Json::parse_event_t::object_start:
            case Json::parse_event_t::array_start:
                if (keys.size() == kDepth) {
                    throw FormatError(path_text(file) + ": limit: nested more than " + std::to_string(kDepth) +
                                      " levels deep");
                }
                keys.emplace_back();
                break;
            case Json::parse_event_t::key: {
                const auto& key = parsed.template get_ref<const std::string&>();
                if (!keys.back().insert(key).second) {
                    throw FormatError(path_text(file) + ": duplicate: the key " + name_text(key) + " comes twice");
                }
                break;
            }
            case Json::parse_event_t::object_end:
            case Json::parse_event_t::array_end: keys.pop_back(); break;
            case Json::parse_event_t::value: break;
        }
        return true;
    };
    // The JSON library takes a zero byte for the end of its input.
    if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
        throw FormatError(path_text(file) + ": not valid JSON at byte " + std::to_string(zero + 1));
    }
    try {
        return Json::parse(text.begin(), text.end(), check);
    } catch (const nlohmann::json::parse_error& error) {
        throw FormatError(path_text(file) + ": not valid JSON at byte " + std::to_string(error.byte));
    } catch (const nlohmann::json::exception&) {
        throw FormatError(path_text(file) + ": a number is too large");
    }
}

/// The contents of a small text file. Throws FormatError above 100 MB.
inline std::string_view file_text(const MappedFile& file) {
    constexpr std::size_t kMostBytes = 100'000'000;
    if (file.size() > kMostBytes) {
        throw FormatError(path_text(file.path()) + ": limit: " + std::to_string(file.size()) +
                          " bytes of JSON, above " + std::to_string(kMostBytes));
    }
    return {reinterpret_cast<const char*>(file.bytes().data()), file.size()};
}

}  // namespace lowrank::detail

#include <lowrank/checkpoint/compiled/json.hpp>  // below what it announces
