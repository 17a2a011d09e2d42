// lowrank - whether the layers of a compression plan get faster, measured on this machine.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/report_table.hpp>
#include <lowrank/measure.hpp>

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace lowrank {

namespace detail {

template <class Context>
ForwardTimes measure_dtype(const Context& context, const std::string& dtype, const MeasuredShape& shape,
                           const MeasureOptions& options) {
    if (dtype == "BF16") return measure_forward<bf16>(context, shape, options);
    if (dtype == "F16") return measure_forward<f16>(context, shape, options);
    if (dtype == "F64") return measure_forward<double>(context, shape, options);
    return measure_forward<float>(context, shape, options);
}

inline std::string microseconds(double seconds) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.1f", seconds * 1e6);
    return text;
}

}  // namespace detail

/// A table of one line for each shape, rank and type that the plan would factorise: microseconds of a forward of `rows`
/// rows, dense and low-rank, how much faster, and which to use. Ends with a line break.
template <class Context>
std::string measured_table(const Context& context, const CompressPlan& plan, std::int64_t rows,
                           const MeasureOptions& options = {}) {
    std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::string>, int> shapes;
    for (const PlannedLayer& layer : plan.layers) {
        if (!layer.choice || layer.choice->dense) continue;
        ++shapes[{layer.d_in, layer.d_out, layer.choice->rank, layer.weight->dtype}];
    }
    if (shapes.empty()) return "no layer of known rank to measure\n";
    std::vector<std::vector<std::string>> lines = {
        {"d_in x d_out", "rank", "type", "layers", "rows", "dense us", "low-rank us", "speed-up", "use"}};
    for (const auto& [shape, count] : shapes) {
        const auto& [d_in, d_out, rank, dtype] = shape;
        const ForwardTimes times =
            detail::measure_dtype(context, dtype, {.d_in = d_in, .d_out = d_out, .rank = rank, .rows = rows}, options);
        char speed_up[32];
        std::snprintf(speed_up, sizeof(speed_up), "%.2f", times.speed_up());
        lines.push_back({shape_string(d_in, d_out), std::to_string(rank), dtype, std::to_string(count),
                         std::to_string(rows), detail::microseconds(times.dense), detail::microseconds(times.low_rank),
                         speed_up, times.low_rank_pays() ? "low-rank" : "dense"});
    }
    return detail::aligned(lines);
}

}  // namespace lowrank
