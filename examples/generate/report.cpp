// generate - tables and JSON.
// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <lowrank/checkpoint/write_json.hpp>
#include <lowrank/cpu/isa.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <functional>
#include <utility>

#include <unistd.h>

namespace engine {

namespace {

std::string format(const char* pattern, double value) {
    char text[64];
    std::snprintf(text, sizeof(text), pattern, value);
    return text;
}

std::string grouped(std::int64_t value) {
    std::string text = std::to_string(value);
    for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
        text.insert(text.begin() + at, ',');
    }
    return text;
}

std::string megabytes(std::size_t bytes) {
    return format("%.0f MB", static_cast<double>(bytes) / 1e6);
}

double rate(std::int64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::string speed_text(std::int64_t tokens, double seconds) {
    return tokens == 0 ? "-" : format("%.1f tokens/s", rate(tokens, seconds)) + " (" + std::to_string(tokens) + ")";
}

using Row = std::pair<std::string, std::function<std::string(const Report&)>>;

std::vector<Row> rows_for(const Report& report) {
    std::vector<Row> rows = {
        {"parameters", [](const Report& r) { return grouped(r.parameters); }},
        {"low-rank layers",
         [](const Report& r) { return std::to_string(r.low_rank_layers) + " of " + std::to_string(r.linear_layers); }},
        {"linear weights",
         [](const Report& r) { return megabytes(r.weight_bytes) + " " + std::string(storage_name(r.type)); }},
        {"resident memory", [](const Report& r) { return r.resident_bytes ? megabytes(*r.resident_bytes) : "-"; }}};
    if (report.generation) {
        rows.emplace_back("prefill", [](const Report& r) {
            return speed_text(r.generation->prompt_tokens, r.generation->prefill_seconds);
        });
        rows.emplace_back(
            "decode", [](const Report& r) { return speed_text(r.generation->decoded, r.generation->decode_seconds); });
    }
    if (report.speed) {
        rows.emplace_back(
            "prefill", [](const Report& r) { return speed_text(r.speed->prefill_tokens, r.speed->prefill_seconds); });
        rows.emplace_back("decode",
                          [](const Report& r) { return speed_text(r.speed->decode_tokens, r.speed->decode_seconds); });
    }
    if (report.perplexity) {
        rows.emplace_back("perplexity", [](const Report& r) { return format("%.4f", r.perplexity->value); });
        rows.emplace_back("predictions", [](const Report& r) { return grouped(r.perplexity->predictions); });
        rows.emplace_back("time", [](const Report& r) { return format("%.1f s", r.perplexity_seconds); });
    }
    return rows;
}

const char* stop_name(StopReason stop) {
    switch (stop) {
        case StopReason::stop_token: return "stop token";
        case StopReason::most_tokens: return "most tokens";
        case StopReason::context_full: return "context full";
        case StopReason::interrupted: break;
    }
    return "interrupted";
}

nlohmann::ordered_json to_json(const Report& report) {
    nlohmann::ordered_json json = {{"model", report.model},
                                   {"type", storage_name(report.type)},
                                   {"parameters", report.parameters},
                                   {"weight_bytes", report.weight_bytes},
                                   {"low_rank_layers", report.low_rank_layers},
                                   {"linear_layers", report.linear_layers},
                                   {"load_seconds", report.load_seconds}};
    if (report.resident_bytes) json["resident_bytes"] = *report.resident_bytes;
    if (report.generation) {
        const Generation& made = *report.generation;
        json["text"] = report.text;
        json["tokens"] = made.tokens;
        json["stop"] = stop_name(made.stop);
        json["prompt_tokens"] = made.prompt_tokens;
        json["prefill_tokens_per_second"] = rate(made.prompt_tokens, made.prefill_seconds);
        json["decode_tokens_per_second"] = rate(made.decoded, made.decode_seconds);
    }
    if (report.speed) {
        json["prefill_tokens"] = report.speed->prefill_tokens;
        json["prefill_tokens_per_second"] = rate(report.speed->prefill_tokens, report.speed->prefill_seconds);
        json["decode_tokens"] = report.speed->decode_tokens;
        json["decode_tokens_per_second"] = rate(report.speed->decode_tokens, report.speed->decode_seconds);
    }
    if (report.perplexity) {
        json["perplexity"] = report.perplexity->value;
        json["predictions"] = report.perplexity->predictions;
        json["seconds"] = report.perplexity_seconds;
    }
    return json;
}

}  // namespace

Report describe(const std::filesystem::path& folder, const LanguageModel& model) {
    Report report;
    const std::filesystem::path name = folder.has_filename() ? folder.filename() : folder.parent_path().filename();
    report.model = name.string();
    report.type = model.type();
    report.parameters = model.parameters();
    report.weight_bytes = model.weight_bytes();
    report.low_rank_layers = model.low_rank_layers();
    report.linear_layers = model.linear_layers();
    return report;
}

std::optional<std::size_t> resident_bytes() {
    std::ifstream file("/proc/self/statm");
    std::size_t total = 0;
    std::size_t resident = 0;
    if (!(file >> total >> resident)) return std::nullopt;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::string report_table(const std::vector<Report>& reports) {
    std::vector<std::vector<std::string>> lines = {{""}};
    for (const Report& report : reports) lines.front().push_back(report.model);
    for (const auto& [name, value] : rows_for(reports.front())) {
        std::vector<std::string>& line = lines.emplace_back(std::vector<std::string>{name});
        for (const Report& report : reports) line.push_back(value(report));
    }
    std::vector<std::size_t> widths(lines.front().size());
    for (const auto& line : lines) {
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    }
    std::string table;
    for (const auto& line : lines) {
        for (std::size_t i = 0; i < line.size(); ++i) {
            const std::string space(widths[i] - line[i].size(), ' ');
            table += i == 0 ? line[i] + space : "  " + space + line[i];
        }
        table += '\n';
    }
    return table;
}

void write_report(const std::vector<Report>& reports, const lowrank::cpu::Context& context,
                  const std::filesystem::path& path) {
    nlohmann::ordered_json json = {{"isa", lowrank::cpu::isa_name(context.isa())}, {"threads", context.threads()}};
    for (const Report& report : reports) json["models"].push_back(to_json(report));
    lowrank::detail::write_json(json, path);
}

}  // namespace engine
