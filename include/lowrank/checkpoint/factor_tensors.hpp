// lowrank - factors as the tensors of a checkpoint: names, orientation, type, and the notes in the metadata.
// SPDX-License-Identifier: MIT
//
// PyTorch's nn.Linear stores A = W^T, d_out x d_in. MODULE.weight becomes MODULE.w1, d_out x r, and MODULE.w2,
// r x d_in, both row-major in the weight's own type, with A ~ w1 w2; so w1 = W2^T and w2 = W1^T of this library's
// W ~ W1 W2. A layer computes y = x w2^T w1^T + b.
// The metadata of a file gains
//     "lowrank.version": "0.1.0"
//     "lowrank.layers":  {"model.layers.0.self_attn.q_proj": {"rank": 384, "relative_error": 0.41, "method": "exact"}}
// both strings, as the format asks; the second is JSON text. Layers noted by an earlier compression stay noted.
#pragma once

#include <lowrank/checkpoint/dtype.hpp>
#include <lowrank/checkpoint/report.hpp>
#include <lowrank/checkpoint/safetensors.hpp>
#include <lowrank/checkpoint/safetensors_writer.hpp>
#include <lowrank/checkpoint/strict_json.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lowrank::detail {

inline constexpr const char* kVersionKey = "lowrank.version";
inline constexpr const char* kLayersKey = "lowrank.layers";

[[noreturn]] inline void throw_overflow(const std::string& subject, std::string_view dtype) {
    throw ValueError(subject + ": its factors overflow " + std::string(dtype) + "; store the weight in a wider type");
}

/// The same rounded to T. Throws ValueError, beginning with `subject`, if an entry overflows T.
template <Scalar T, ComputeScalar C>
Matrix<T> rounded_as(MatrixView<const C> a, const std::string& subject) {
    Matrix<T> result(a.rows(), a.cols());
    bool finite = true;
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            result(i, j) = static_cast<T>(a(i, j));
            finite = finite && is_finite(result(i, j));
        }
    }
    if (!finite) throw_overflow(subject, dtype_name<T>());
    return result;
}

/// The transpose, rounded to T. Throws as rounded_as does.
template <Scalar T, Scalar C>
Matrix<T> transposed_as(MatrixView<const C> a, const std::string& subject) {
    constexpr std::int64_t kTile = 32;  // a tile of either side stays in the first-level cache
    Matrix<T> result(a.cols(), a.rows());
    bool finite = true;
    for (std::int64_t i0 = 0; i0 < a.rows(); i0 += kTile) {
        for (std::int64_t j0 = 0; j0 < a.cols(); j0 += kTile) {
            for (std::int64_t i = i0; i < std::min(i0 + kTile, a.rows()); ++i) {
                for (std::int64_t j = j0; j < std::min(j0 + kTile, a.cols()); ++j) {
                    const T value = static_cast<T>(a(i, j));
                    finite = finite && is_finite(value);
                    result(j, i) = value;
                }
            }
        }
    }
    if (!finite) throw_overflow(subject, dtype_name<T>());
    return result;
}

template <Scalar T>
void write_matrix(SafetensorsWriter& file, const std::string& name, const Matrix<T>& matrix) {
    file.begin(name, std::string(dtype_name<T>()),
               {static_cast<std::uint64_t>(matrix.rows()), static_cast<std::uint64_t>(matrix.cols())});
    file.write(std::as_bytes(std::span(matrix.data(), matrix.size())));
}

/// `value` with six significant digits: more would be noise, and its text has at most 12 characters.
inline double rounded(double value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.6g", value);
    return std::strtod(text, nullptr);
}

/// The metadata of a file that holds `layers`; those that are dense are not noted.
inline std::map<std::string, std::string> compressed_metadata(std::map<std::string, std::string> metadata,
                                                              std::span<const CompressedLayer> layers) {
    nlohmann::ordered_json notes = nlohmann::ordered_json::object();
    if (const auto earlier = metadata.find(kLayersKey); earlier != metadata.end()) {
        try {
            const nlohmann::ordered_json parsed = parse_strict_json(earlier->second, kLayersKey);
            if (parsed.is_object()) notes = parsed;
        } catch (const FormatError&) {  // somebody else's note under this name
        }
    }
    for (const CompressedLayer& layer : layers) {
        if (layer.dense()) continue;
        notes[layer.module] = {{"rank", layer.choice->rank},
                               {"relative_error", rounded(layer.relative_error.value_or(0))},
                               {"method", method_name(layer.method.value_or(Method::automatic))}};
    }
    metadata[kVersionKey] = LOWRANK_VERSION_STRING;
    if (!notes.empty()) metadata[kLayersKey] = notes.dump();
    return metadata;
}

/// Bytes that suffice for the header of the compressed `shard`, whatever ranks and errors come out: every layer is
/// counted both dense and factorised, with the longest numbers that it can have.
inline std::uint64_t header_capacity(const SafetensorsReader& shard, std::span<const CompressedLayer> layers) {
    std::vector<TensorInfo> tensors = shard.tensors();
    const std::uint64_t end = tensors.empty() ? 0 : tensors.back().end;  // the output is never longer than the input
    std::vector<CompressedLayer> longest(layers.begin(), layers.end());
    for (CompressedLayer& layer : longest) {
        const auto rank = static_cast<std::int64_t>(std::ceil(break_even_rank(layer.d_in, layer.d_out)));
        layer.choice = RankChoice{rank, false};
        layer.relative_error = -1.23457e-300;
        layer.method = Method::automatic;
        const auto r = static_cast<std::uint64_t>(rank);
        tensors.push_back({layer.module + ".w1", layer.dtype, {static_cast<std::uint64_t>(layer.d_out), r}, 0, 0});
        tensors.push_back({layer.module + ".w2", layer.dtype, {r, static_cast<std::uint64_t>(layer.d_in)}, 0, 0});
    }
    for (TensorInfo& tensor : tensors) tensor.begin = tensor.end = end;
    return safetensors_header_text(tensors, compressed_metadata(shard.metadata(), longest)).size();
}

}  // namespace lowrank::detail
