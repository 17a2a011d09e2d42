// lowrank - a checkpoint as Hugging Face lays it out: a folder with one safetensors file, or shards and their index.
// SPDX-License-Identifier: MIT
//
//     lowrank::ModelFolder model("SmolLM2-135M-Instruct");
//     for (const auto& [shard, tensor] : model.tensors()) use(tensor->name, shard->bytes(*tensor));
//     lowrank::Matrix<float> norm = model.at("model.layers.0.self_attn.q_proj.weight").matrix<float>();
#pragma once

#include <lowrank/checkpoint/messages.hpp>
#include <lowrank/checkpoint/safetensors.hpp>
#include <lowrank/checkpoint/shard_index.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lowrank {

/// A tensor and the file that it lies in.
struct StoredTensor {
    const SafetensorsReader* shard = nullptr;
    const TensorInfo* info = nullptr;

    [[nodiscard]] std::span<const std::byte> bytes() const { return shard->bytes(*info); }
    template <Scalar T>
    [[nodiscard]] Matrix<T> matrix() const {
        return shard->matrix<T>(*info);
    }
};

class ModelFolder {
public:
    static constexpr const char* kSingleFile = "model.safetensors";
    static constexpr const char* kIndexFile = "model.safetensors.index.json";

    /// Opens all files and reads their headers, no data. Throws IoError if a file is missing or unreadable,
    /// FormatError if one is malformed or the index and the shards disagree.
    explicit ModelFolder(std::filesystem::path folder) : folder_(std::move(folder)) {
        namespace fs = std::filesystem;
        std::error_code error;
        const fs::file_status status = fs::status(folder_, error);
        if (!fs::exists(status)) detail::throw_io(folder_, "cannot open", error ? error.value() : ENOENT);
        if (!fs::is_directory(status)) throw IoError(detail::path_text(folder_) + ": not a folder");
        const bool single = fs::exists(folder_ / kSingleFile, error);
        const bool indexed = fs::exists(folder_ / kIndexFile, error);
        if (single && indexed) {
            throw FormatError(detail::path_text(folder_) + ": holds both " + kSingleFile + " and " + kIndexFile +
                              "; remove the one that is not the model");
        }
        if (!single && !indexed) {
            throw IoError(detail::path_text(folder_) + ": holds neither " + kSingleFile + " nor " + kIndexFile);
        }
        if (single) {
            open_shard(kSingleFile);
        } else {
            index_ = read_shard_index(folder_ / kIndexFile);
            open_shards();
        }
        for (const auto& shard : shards_) {
            for (const TensorInfo& tensor : shard->tensors())
                by_name_.emplace(tensor.name, StoredTensor{shard.get(), &tensor});
        }
    }

    [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
    /// The files in the order of their names; one, model.safetensors, where there is no index.
    [[nodiscard]] const std::vector<std::unique_ptr<SafetensorsReader>>& shards() const { return shards_; }
    /// Nothing for a model of a single file.
    [[nodiscard]] const std::optional<ShardIndex>& index() const { return index_; }
    [[nodiscard]] std::size_t tensor_count() const { return by_name_.size(); }

    /// All tensors, by name.
    [[nodiscard]] const std::map<std::string_view, StoredTensor>& tensors() const { return by_name_; }

    [[nodiscard]] std::optional<StoredTensor> find(std::string_view name) const {
        const auto found = by_name_.find(name);
        if (found == by_name_.end()) return std::nullopt;
        return found->second;
    }
    /// Throws ValueError if there is none of that name.
    [[nodiscard]] StoredTensor at(std::string_view name) const {
        if (const auto found = find(name)) return *found;
        throw ValueError(detail::path_text(folder_) + ": there is no tensor " + detail::name_text(name));
    }

private:
    void open_shard(const std::string& file) { shards_.push_back(std::make_unique<SafetensorsReader>(folder_ / file)); }

    void open_shards() {
        std::map<std::string_view, const SafetensorsReader*> by_file;
        for (const auto& [tensor, file] : index_->weight_map) by_file.emplace(file, nullptr);
        for (auto& [file, shard] : by_file) {
            open_shard(std::string(file));
            shard = shards_.back().get();
        }
        for (const auto& [tensor, file] : index_->weight_map) {
            if (by_file.at(file)->find(tensor) != nullptr) continue;
            throw FormatError(detail::path_text(folder_ / kIndexFile) + ": tensor " + detail::name_text(tensor) +
                              " is listed in " + detail::name_text(file) + " but absent from that file");
        }
        for (const auto& shard : shards_) {
            for (const TensorInfo& tensor : shard->tensors()) check_listed(*shard, tensor);
        }
    }

    void check_listed(const SafetensorsReader& shard, const TensorInfo& tensor) const {
        const auto listed = index_->weight_map.find(tensor.name);
        if (listed != index_->weight_map.end() && listed->second == shard.path().filename()) return;
        const std::string problem = listed == index_->weight_map.end()
                                        ? "is not listed in " + std::string(kIndexFile)
                                        : "is listed in another file, " + detail::name_text(listed->second);
        throw FormatError(detail::path_text(shard.path()) + ": tensor " + detail::name_text(tensor.name) + " " +
                          problem);
    }

    std::filesystem::path folder_;
    std::optional<ShardIndex> index_;
    std::vector<std::unique_ptr<SafetensorsReader>> shards_;
    std::map<std::string_view, StoredTensor> by_name_;
};

}  // namespace lowrank
