// lowrank - the index of a checkpoint that is split over several safetensors files.
// SPDX-License-Identifier: MIT
//
//     {"metadata": {"total_size": 5590886400}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
//
// `total_size` is advisory: many writers get it wrong, so it is not checked. Shards lie beside the index: a file name
// that leads anywhere else is refused.
#pragma once

#include <lowrank/checkpoint/atomic_file.hpp>
#include <lowrank/checkpoint/mapped_file.hpp>
#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/strict_json.hpp>
#include <lowrank/error.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace lowrank {

struct ShardIndex {
    std::map<std::string, std::string> weight_map;  ///< tensor -> file name
    nlohmann::ordered_json metadata;                ///< an object, or null where the file has none
};

namespace detail {

inline void check_shard_name(const std::filesystem::path& index, const std::string& tensor, const std::string& file) {
    const char* problem = nullptr;
    if (file.empty()) problem = "is empty";
    if (file.find_first_of("/\\") != std::string::npos) problem = "leads to another folder";
    if (file == "." || file == "..") problem = "is no file";
    if (file.find('\0') != std::string::npos) problem = "holds a zero byte";
    if (problem == nullptr) return;
    throw FormatError(path_text(index) + ": tensor " + name_text(tensor) + ": field: the file name " + name_text(file) +
                      " " + problem);
}

}  // namespace detail

/// Throws IoError if it cannot be read, FormatError if it is malformed.
inline ShardIndex read_shard_index(const std::filesystem::path& path) {
    const MappedFile file(path);
    const nlohmann::ordered_json json = detail::parse_strict_json(detail::file_text(file), path);
    const std::string prefix = detail::path_text(path) + ": field: ";
    if (!json.is_object()) throw FormatError(prefix + "the index is not an object");
    const auto map = json.find("weight_map");
    if (map == json.end() || !map->is_object()) throw FormatError(prefix + "weight_map is missing or not an object");

    ShardIndex index;
    if (const auto metadata = json.find("metadata"); metadata != json.end()) {
        if (!metadata->is_object()) throw FormatError(prefix + "metadata is not an object");
        index.metadata = *metadata;
    }
    for (const auto& [tensor, shard] : map->items()) {
        if (!shard.is_string()) {
            throw FormatError(prefix + "the file of tensor " + detail::name_text(tensor) + " is not a string");
        }
        detail::check_shard_name(path, tensor, shard.get_ref<const std::string&>());
        index.weight_map.emplace(tensor, shard.get<std::string>());
    }
    return index;
}

/// Writes it crash-safe (atomic_file.hpp). Throws IoError.
inline void write_shard_index(const ShardIndex& index, const std::filesystem::path& path) {
    nlohmann::ordered_json json;
    json["metadata"] = index.metadata.is_null() ? nlohmann::ordered_json::object() : index.metadata;
    json["weight_map"] = index.weight_map;
    AtomicFile file(path);
    file.append(json.dump(2) + "\n");
    file.commit();
}

}  // namespace lowrank
