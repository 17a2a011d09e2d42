// generate - fields of a JSON file, read with their type checked and one clear line for what is wrong.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/strict_json.hpp>
#include <lowrank/error.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine {

using Json = nlohmann::json;

/// An object of a file. Remembers which keys were asked for, so that the others can be named.
class Fields {
public:
    /// `where` is the object's place in the file, such as "rope_scaling", or empty for the whole file.
    /// Throws FormatError if `object` is none.
    Fields(const Json& object, std::filesystem::path file, std::string where = {})
        : object_(&object), file_(std::move(file)), where_(std::move(where)) {
        if (!object.is_object()) fail("", "an object is needed, not ", object);
    }

    /// Null if the field is missing or null: the two mean the same in these files.
    [[nodiscard]] const Json* find(const std::string& key) {
        known_.insert(key);
        const auto at = object_->find(key);
        return at == object_->end() || at->is_null() ? nullptr : &*at;
    }
    [[nodiscard]] const Json& at(const std::string& key) {
        const Json* found = find(key);
        if (found == nullptr) throw lowrank::FormatError(subject(key) + ": this field is missing");
        return *found;
    }

    /// A whole number of at least `least`.
    [[nodiscard]] std::int64_t whole(const std::string& key, std::int64_t least = 1) {
        return whole(key, at(key), least);
    }
    [[nodiscard]] std::int64_t whole_or(const std::string& key, std::int64_t otherwise, std::int64_t least = 1) {
        const Json* found = find(key);
        return found == nullptr ? otherwise : whole(key, *found, least);
    }
    /// A positive number.
    [[nodiscard]] double positive(const std::string& key) { return positive(key, at(key)); }
    [[nodiscard]] double positive_or(const std::string& key, double otherwise) {
        const Json* found = find(key);
        return found == nullptr ? otherwise : positive(key, *found);
    }
    [[nodiscard]] bool flag_or(const std::string& key, bool otherwise) {
        const Json* found = find(key);
        if (found == nullptr) return otherwise;
        if (!found->is_boolean()) fail(key, "true or false is needed, not ", *found);
        return found->get<bool>();
    }
    [[nodiscard]] std::string text(const std::string& key) { return text(key, at(key)); }
    [[nodiscard]] std::string text_or(const std::string& key, const std::string& otherwise) {
        const Json* found = find(key);
        return found == nullptr ? otherwise : text(key, *found);
    }
    [[nodiscard]] Fields object(const std::string& key) { return {at(key), file_, place(key)}; }
    /// The object at place `i` of a list.
    [[nodiscard]] Fields item(const std::string& key, const Json& value, std::size_t i) const {
        return {value, file_, place(key) + "[" + std::to_string(i) + "]"};
    }
    [[nodiscard]] const Json& array(const std::string& key) {
        const Json& value = at(key);
        if (!value.is_array()) fail(key, "a list is needed, not ", value);
        return value;
    }
    [[nodiscard]] std::string text(const std::string& key, const Json& value) const {
        if (!value.is_string()) fail(key, "a text is needed, not ", value);
        return value.get<std::string>();
    }
    [[nodiscard]] std::int64_t whole(const std::string& key, const Json& value, std::int64_t least) const {
        // Sizes are multiplied: 32 bits for each keep the products in 64.
        constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
        if (!value.is_number_integer() || value.get<std::int64_t>() < least || value.get<std::int64_t>() > kMost ||
            (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(kMost))) {
            fail(key,
                 "a whole number of at least " + std::to_string(least) + " and at most " + std::to_string(kMost) +
                     " is needed, not ",
                 value);
        }
        return value.get<std::int64_t>();
    }

    /// The keys, with values other than null, that were never asked for.
    [[nodiscard]] std::vector<std::string> unread() const {
        std::vector<std::string> keys;
        for (const auto& [key, value] : object_->items()) {
            if (!value.is_null() && known_.count(key) == 0) keys.push_back(key);
        }
        return keys;
    }

    /// "'config.json': rope_scaling.factor", to begin a message with.
    [[nodiscard]] std::string subject(const std::string& key) const {
        const std::string at = place(key);
        return lowrank::detail::path_text(file_) + (at.empty() ? "" : ": " + at);
    }
    /// Throws: this engine does not do what the field asks for; `supported` says what it does.
    [[noreturn]] void unsupported(const std::string& key, const std::string& supported) const {
        throw lowrank::FormatError(subject(key) + ": " + lowrank::detail::name_text(object_->at(key).dump()) +
                                   " is not supported; " + supported);
    }

private:
    [[nodiscard]] double positive(const std::string& key, const Json& value) const {
        if (!value.is_number() || !(value.get<double>() > 0)) fail(key, "a number above 0 is needed, not ", value);
        return value.get<double>();
    }
    [[nodiscard]] std::string place(const std::string& key) const {
        return where_.empty() || key.empty() ? where_ + key : where_ + "." + key;
    }
    [[noreturn]] void fail(const std::string& key, const std::string& needed, const Json& value) const {
        // Text that is not UTF-8 cannot come here from a file, but dump() must not throw for it either.
        throw lowrank::FormatError(
            subject(key) + ": " + needed +
            lowrank::detail::name_text(value.dump(-1, ' ', false, Json::error_handler_t::replace)));
    }

    const Json* object_;
    std::filesystem::path file_;
    std::string where_;
    std::set<std::string> known_;
};

/// The contents of a JSON file. Throws IoError if it cannot be read, FormatError if it is malformed.
inline Json read_json(const std::filesystem::path& path) {
    const lowrank::MappedFile file(path);
    return lowrank::detail::parse_strict_json<Json>(lowrank::detail::file_text(file), path);
}

}  // namespace engine
