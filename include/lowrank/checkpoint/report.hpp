// lowrank - what compressing a checkpoint did, or would do, and its JSON form.
// SPDX-License-Identifier: MIT
//
// {"version": "0.1.0", "input": "in", "output": "out", "method": "exact", "threads": 2, "seconds": 61.2,
//  "parameters": {"before": 2795443200, "after": 2090800128}, "bytes": {"before": 5590886400, "after": 4181600256},
//  "exact": true, "peak_resident_bytes": 734003200,
//  "layers": [{"name": "model.layers.0.self_attn.q_proj", "pattern": "q_proj", "rule": "rank 384", "type": "BF16",
//              "d_in": 2560, "d_out": 2560, "rank": 384, "dense": false, "relative_error": 0.41, "method": "exact",
//              "parameters": {"before": 6553600, "after": 1966080}, "seconds": 2.6}],
//  "warnings": []}
// With a calibration a layer also has its "weighted_error", and the report
//  "calibration": {"statistics": "s.safetensors", "texts": ["85944171f73967e8"], "tokens": 32768,
//                  "gradient_tokens": 16384, "budget": 84934656, "selected": 106168320, "loss": 0.21, "gap": 1e-5}
// What is not known is null: in a plan the ranks of rules that need the singular values, errors, methods and times;
// "exact" is then false if `after` counts layers as dense whose rank is not known. A dense layer has a "reason".
#pragma once

#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/write_json.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/version.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/resource.h>

namespace lowrank {

/// What became, or will become, of one selected layer.
struct CompressedLayer {
    std::string module;
    std::string pattern;  ///< of the config's entry that selected it
    std::string rule;     ///< "rank 384"
    std::string dtype;
    std::int64_t d_in = 0;
    std::int64_t d_out = 0;
    std::optional<RankChoice> choice;
    std::optional<double> relative_error;  ///< ||W - W1 W2||_F / ||W||_F, before the factors are rounded to the type
    std::optional<double> weighted_error;  ///< the same in the norm of the calibration, if there is one
    std::optional<Method> method;
    std::optional<double> seconds;

    [[nodiscard]] bool dense() const { return !choice || choice->dense; }
    [[nodiscard]] std::int64_t parameters_before() const { return d_in * d_out; }
    [[nodiscard]] std::int64_t parameters_after() const {
        return dense() ? parameters_before() : low_rank_parameters(d_in, d_out, choice->rank);
    }
    /// Why it stays dense; empty if it does not.
    [[nodiscard]] std::string reason() const {
        if (!choice || !choice->dense) return {};
        char break_even[32];
        std::snprintf(break_even, sizeof(break_even), "%.1f", break_even_rank(d_in, d_out));
        return "rank " + std::to_string(choice->rank) + " is not below the break-even rank " + break_even;
    }
};

/// How a budget was split by a calibration.
struct CalibrationNote {
    std::filesystem::path statistics;
    std::vector<std::string> texts;    ///< hashes of the calibration texts
    std::int64_t tokens = 0;           ///< the least over the layers, of inputs and of gradients
    std::int64_t gradient_tokens = 0;  ///< 0: the errors of the inputs alone count
    std::int64_t budget = 0;           ///< parameters for the selected layers
    std::int64_t selected = 0;         ///< parameters that they have
    double loss = 0;                   ///< estimate: nats per token (with gradients), else mean squared output error
    double gap = 0;                    ///< the part of it that a better split could save at most
};

struct CompressReport {
    std::filesystem::path input;
    std::filesystem::path output;  ///< empty in a plan
    std::optional<Method> method;  ///< that was asked for
    std::optional<int> threads;
    std::optional<double> seconds;  ///< in all
    std::optional<std::uint64_t> peak_resident_bytes;
    ModelSize before;
    ModelSize after;
    bool exact = true;  ///< false if ranks are not known yet, and `after` is only an upper bound
    std::optional<CalibrationNote> calibration;
    std::vector<CompressedLayer> layers;
    std::vector<std::string> warnings;
};

/// The largest resident memory of this process so far.
inline std::uint64_t peak_resident_bytes() {
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return static_cast<std::uint64_t>(usage.ru_maxrss);
#else
    return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
#endif
}

inline CompressedLayer planned(const PlannedLayer& layer) {
    return {.module = layer.module,
            .pattern = layer.pattern,
            .rule = layer.rule.describe(),
            .dtype = layer.weight->dtype,
            .d_in = layer.d_in,
            .d_out = layer.d_out,
            .choice = layer.choice,
            .relative_error = {},
            .weighted_error = {},
            .method = {},
            .seconds = {}};
}

/// The report of a plan: counts and bytes, nothing measured.
inline CompressReport report_plan(const ModelFolder& model, const CompressPlan& plan) {
    CompressReport report;
    report.input = model.folder();
    report.before = plan.before;
    report.after = plan.after;
    report.exact = plan.exact;
    report.warnings = plan.warnings;
    for (const PlannedLayer& layer : plan.layers) report.layers.push_back(planned(layer));
    return report;
}

namespace detail {

template <class T>
nlohmann::ordered_json json_or_null(const std::optional<T>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

inline nlohmann::ordered_json method_json(const std::optional<Method>& method) {
    return method ? nlohmann::ordered_json(method_name(*method)) : nlohmann::ordered_json(nullptr);
}

inline nlohmann::ordered_json layer_json(const CompressedLayer& layer) {
    nlohmann::ordered_json json;
    json["name"] = layer.module;
    json["pattern"] = layer.pattern;
    json["rule"] = layer.rule;
    json["type"] = layer.dtype;
    json["d_in"] = layer.d_in;
    json["d_out"] = layer.d_out;
    json["rank"] = layer.choice ? nlohmann::ordered_json(layer.choice->rank) : nlohmann::ordered_json(nullptr);
    json["dense"] = layer.choice ? nlohmann::ordered_json(layer.choice->dense) : nlohmann::ordered_json(nullptr);
    if (const std::string reason = layer.reason(); !reason.empty()) json["reason"] = reason;
    json["relative_error"] = json_or_null(layer.relative_error);
    if (layer.weighted_error) json["weighted_error"] = *layer.weighted_error;
    json["method"] = method_json(layer.method);
    json["parameters"] = {{"before", layer.parameters_before()}, {"after", layer.parameters_after()}};
    json["seconds"] = json_or_null(layer.seconds);
    return json;
}

inline nlohmann::ordered_json calibration_json(const CalibrationNote& note) {
    nlohmann::ordered_json json;
    json["statistics"] = note.statistics.string();
    json["texts"] = note.texts;
    json["tokens"] = note.tokens;
    json["gradient_tokens"] = note.gradient_tokens;
    json["budget"] = note.budget;
    json["selected"] = note.selected;
    json["loss"] = note.loss;
    json["gap"] = note.gap;
    return json;
}

}  // namespace detail

inline nlohmann::ordered_json report_json(const CompressReport& report) {
    nlohmann::ordered_json json;
    json["version"] = LOWRANK_VERSION_STRING;
    json["input"] = report.input.string();
    json["output"] =
        report.output.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(report.output.string());
    json["method"] = detail::method_json(report.method);
    json["threads"] = detail::json_or_null(report.threads);
    json["seconds"] = detail::json_or_null(report.seconds);
    json["parameters"] = {{"before", report.before.parameters}, {"after", report.after.parameters}};
    json["bytes"] = {{"before", report.before.bytes}, {"after", report.after.bytes}};
    json["exact"] = report.exact;
    json["peak_resident_bytes"] = detail::json_or_null(report.peak_resident_bytes);
    if (report.calibration) json["calibration"] = detail::calibration_json(*report.calibration);
    json["layers"] = nlohmann::ordered_json::array();
    for (const CompressedLayer& layer : report.layers) json["layers"].push_back(detail::layer_json(layer));
    json["warnings"] = report.warnings;
    return json;
}

/// Writes the JSON form as `write_json` does. Throws IoError.
inline void write_report(const CompressReport& report, const std::filesystem::path& path) {
    detail::write_json(report_json(report), path);
}

}  // namespace lowrank
