// lowrank - a compression report as an aligned table for a terminal.
// SPDX-License-Identifier: MIT
//
// Up to 16 layers get a line each; of more, those that differ only by a number in their name (model.layers.*.q_proj)
// share one, with least, mean and largest error. The JSON form lists all.
#pragma once

#include <lowrank/checkpoint/report.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace lowrank {

/// "2,795,443,200".
inline std::string with_separators(std::uint64_t value) {
    std::string text = std::to_string(value);
    for (std::size_t i = text.size(); i > 3;) {
        i -= 3;
        text.insert(i, 1, ',');
    }
    return text;
}

/// "5.59 GB": powers of 1000, three digits.
inline std::string human_bytes(std::uint64_t bytes) {
    constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < std::size(kUnits); ++unit) value /= 1000;
    char text[32];
    const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    std::snprintf(text, sizeof(text), "%.*f %s", decimals, value, kUnits[unit]);
    return text;
}

/// "25.2 % fewer", "0.0 % fewer"; "more" where it grew.
inline std::string change_text(std::uint64_t before, std::uint64_t after) {
    if (before == 0) return "nothing to save";
    const double change =
        100 * (static_cast<double>(before) - static_cast<double>(after)) / static_cast<double>(before);
    char text[32];
    std::snprintf(text, sizeof(text), "%.1f %% %s", std::fabs(change), change < 0 ? "more" : "fewer");
    return text;
}

namespace detail {

/// "model.layers.*.self_attn.q_proj": components that are numbers become a star.
inline std::string without_numbers(std::string_view module) {
    std::string result;
    while (true) {
        const std::size_t dot = module.find('.');
        const std::string_view component = module.substr(0, dot);
        const bool number = !component.empty() && std::all_of(component.begin(), component.end(), [](char c) {
            return std::isdigit(static_cast<unsigned char>(c)) != 0;
        });
        result += number ? "*" : component;
        if (dot == std::string_view::npos) return result;
        result += '.';
        module.remove_prefix(dot + 1);
    }
}

/// Layers that share a line.
struct LayerGroup {
    std::string name;
    std::vector<const CompressedLayer*> layers;

    [[nodiscard]] bool accepts(const std::string& other, const CompressedLayer& layer) const {
        const CompressedLayer& first = *layers.front();
        return name == other && first.d_in == layer.d_in && first.d_out == layer.d_out && first.rule == layer.rule &&
               first.choice.has_value() == layer.choice.has_value() && first.dense() == layer.dense();
    }
};

inline std::vector<LayerGroup> group_layers(const std::vector<CompressedLayer>& layers) {
    constexpr std::size_t kListed = 16;
    std::vector<LayerGroup> groups;
    for (const CompressedLayer& layer : layers) {
        const std::string name = layers.size() > kListed ? without_numbers(layer.module) : layer.module;
        auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.accepts(name, layer); });
        if (group == groups.end()) group = groups.insert(groups.end(), {name, {}});
        group->layers.push_back(&layer);
    }
    return groups;
}

inline std::string rank_text(const LayerGroup& group) {
    const CompressedLayer& first = *group.layers.front();
    if (!first.choice) return first.rule;
    std::int64_t lowest = std::numeric_limits<std::int64_t>::max();
    std::int64_t highest = 0;
    for (const CompressedLayer* layer : group.layers) {
        lowest = std::min(lowest, layer->choice->rank);
        highest = std::max(highest, layer->choice->rank);
    }
    std::string text = std::to_string(lowest);
    if (highest > lowest) text += "-" + std::to_string(highest);
    return first.choice->dense ? "dense (" + text + ")" : text;
}

inline std::string error_text(double error) {
    char text[32];
    std::snprintf(text, sizeof(text), error != 0 && error < 1e-3 ? "%.2e" : "%.4f", error);
    return text;
}

/// The cells of one line.
inline std::vector<std::string> table_row(const LayerGroup& group) {
    const CompressedLayer& first = *group.layers.front();
    double least = std::numeric_limits<double>::infinity();
    double sum = 0;
    double most = 0;
    double seconds = 0;
    std::uint64_t before = 0;
    std::uint64_t after = 0;
    for (const CompressedLayer* layer : group.layers) {
        const double error = layer->weighted_error.value_or(layer->relative_error.value_or(0));
        least = std::min(least, error);
        most = std::max(most, error);
        sum += error;
        seconds += layer->seconds.value_or(0);
        before += static_cast<std::uint64_t>(layer->parameters_before());
        after += static_cast<std::uint64_t>(layer->parameters_after());
    }
    const auto count = static_cast<double>(group.layers.size());
    const bool known = first.relative_error.has_value();
    char time[32] = "-";
    if (first.seconds) std::snprintf(time, sizeof(time), "%.2f", seconds);
    return {group.name,
            std::to_string(group.layers.size()),
            shape_string(first.d_in, first.d_out),
            rank_text(group),
            known ? error_text(least) : "-",
            known ? error_text(sum / count) : "-",
            known ? error_text(most) : "-",
            time,
            with_separators(before),
            with_separators(after)};
}

/// Columns as wide as their widest cell; the first to the left, the others to the right.
inline std::string aligned(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths(rows.front().size());
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string padding(widths[i] - row[i].size(), ' ');
            text += i == 0 ? row[i] + padding : "  " + padding + row[i];
        }
        text.erase(text.find_last_not_of(' ') + 1);
        text += '\n';
    }
    return text;
}

}  // namespace detail

/// The table, the totals, and the warnings, ending with a line break.
inline std::string report_table(const CompressReport& report) {
    std::string text;
    if (!report.layers.empty()) {
        const bool weighted = std::any_of(report.layers.begin(), report.layers.end(), [](const CompressedLayer& layer) {
            return layer.weighted_error.has_value();
        });
        std::vector<std::vector<std::string>> rows = {{"layer", "count", "d_in x d_out", "rank",
                                                       weighted ? "weighted error min" : "error min", "mean", "max",
                                                       "seconds", "parameters", "after"}};
        for (const auto& group : detail::group_layers(report.layers)) rows.push_back(detail::table_row(group));
        text += detail::aligned(rows) + "\n";
    }
    const char* bound = report.exact ? "" : "at most ";
    text +=
        detail::aligned({{"parameters", with_separators(report.before.parameters), "->",
                          bound + with_separators(report.after.parameters),
                          "(" + change_text(report.before.parameters, report.after.parameters) + ")"},
                         {"weights", human_bytes(report.before.bytes), "->", bound + human_bytes(report.after.bytes),
                          "(" + change_text(report.before.bytes, report.after.bytes) + ")"}});
    if (report.calibration) {
        const CalibrationNote& note = *report.calibration;
        char line[160];
        std::snprintf(line, sizeof(line),
                      "budget      %.4g of the selected layers, %s %.4g, at most %.2g %% above the best\n",
                      static_cast<double>(note.budget) / static_cast<double>(note.selected),
                      note.gradient_tokens > 0 ? "estimated loss in nats per token" : "mean squared output error",
                      note.loss, 100 * note.gap);
        text += line;
    }
    if (report.seconds) {
        char line[96];
        std::snprintf(line, sizeof(line), "time        %.1f s", *report.seconds);
        text += line;
        if (report.peak_resident_bytes) text += ", peak memory " + human_bytes(*report.peak_resident_bytes);
        text += '\n';
    }
    return text;
}

}  // namespace lowrank
