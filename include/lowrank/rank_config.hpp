// lowrank - RankConfig: which layers of a model get which rank, by name.
// SPDX-License-Identifier: MIT
//
// A pattern is matched against the end of a module's dotted name, component by component; `*` stands for any one
// component. `q_proj` matches `model.layers.0.self_attn.q_proj`, and so do `self_attn.q_proj` and
// `layers.*.self_attn.q_proj`. Where several patterns match, the one with the most components wins; two of the same
// length that match one module are an error, never a silent choice.
//
//     RankConfig config = RankConfig::parse("q_proj=384,o_proj=384,gate_proj=512");
//     config.add("layers.0.self_attn.q_proj", relative_error(0.05));
//     if (const RankConfig::Entry* entry = config.find("model.layers.3.self_attn.q_proj")) ... entry->rule ...
#pragma once

#include <lowrank/error.hpp>
#include <lowrank/rank.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lowrank {

namespace detail {

/// The last component of a dotted name; `rest` becomes what stands before it.
inline std::string_view pop_component(std::string_view& rest) {
    const std::size_t dot = rest.rfind('.');
    const std::string_view last = dot == std::string_view::npos ? rest : rest.substr(dot + 1);
    rest = dot == std::string_view::npos ? std::string_view{} : rest.substr(0, dot);
    return last;
}

inline bool matches_tail(std::string_view pattern, std::string_view module) {
    while (!pattern.empty()) {
        if (module.empty()) return false;
        const std::string_view wanted = pop_component(pattern);
        const std::string_view found = pop_component(module);
        if (wanted != "*" && wanted != found) return false;
    }
    return true;
}

/// Insertions, deletions and replacements that turn one text into the other (Levenshtein 1966). O(|a| |b|).
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row.back();
}

}  // namespace detail

class RankConfig {
public:
    struct Entry {
        std::string pattern;
        RankRule rule;
    };

    /// Throws ValueError for an empty pattern or component, or one that is there already.
    void add(std::string pattern, RankRule rule) {
        if (pattern.empty() || pattern.front() == '.' || pattern.back() == '.' ||
            pattern.find("..") != std::string::npos) {
            throw ValueError("'" + pattern + "' is no layer name: dotted components are needed, such as q_proj or " +
                             "self_attn.q_proj");
        }
        for (const Entry& entry : entries_) {
            if (entry.pattern == pattern) throw ValueError("the layer name '" + pattern + "' is configured twice");
        }
        entries_.push_back({std::move(pattern), rule});
    }

    /// From "NAME=RANK,NAME=RANK,...". Throws ValueError naming the item that is wrong.
    static RankConfig parse(std::string_view text) {
        RankConfig config;
        while (true) {
            const std::size_t comma = text.find(',');
            const std::string_view item = text.substr(0, comma);
            const std::size_t equals = item.find('=');
            if (equals == std::string_view::npos) {
                throw ValueError("'" + std::string(item) + "' is not of the form NAME=RANK");
            }
            const std::string name(item.substr(0, equals));
            config.add(name, fixed_rank(parse_rank(item.substr(equals + 1), name)));
            if (comma == std::string_view::npos) return config;
            text.remove_prefix(comma + 1);
        }
    }

    [[nodiscard]] std::span<const Entry> entries() const { return entries_; }
    [[nodiscard]] bool empty() const { return entries_.empty(); }

    /// The entry for a module (its name without ".weight"), or null. Throws ValueError if two patterns of the same
    /// number of components match.
    [[nodiscard]] const Entry* find(std::string_view module) const {
        const Entry* best = nullptr;
        for (const Entry& entry : entries_) {
            if (!detail::matches_tail(entry.pattern, module)) continue;
            if (best != nullptr && components(entry) == components(*best)) {
                throw ValueError("the layer names '" + best->pattern + "' and '" + entry.pattern + "' both match " +
                                 std::string(module) + ": make one of them longer");
            }
            if (best == nullptr || components(entry) > components(*best)) best = &entry;
        }
        return best;
    }

    /// Throws ValueError, with the most similar names there are, if an entry matches none of the modules.
    void require_all_matched(std::span<const std::string> modules) const {
        for (const Entry& entry : entries_) {
            const auto matches = [&](const std::string& module) { return detail::matches_tail(entry.pattern, module); };
            if (std::any_of(modules.begin(), modules.end(), matches)) continue;
            throw ValueError("no layer matches '" + entry.pattern + "'" + suggestion(entry, modules));
        }
    }

private:
    static std::int64_t components(const Entry& entry) {
        return 1 + std::count(entry.pattern.begin(), entry.pattern.end(), '.');
    }

    static std::int64_t parse_rank(std::string_view text, const std::string& name) {
        std::int64_t rank = 0;
        const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), rank);
        if (status == std::errc::result_out_of_range) {
            throw ValueError("the rank of '" + name + "', " + std::string(text) + ", is beyond any matrix");
        }
        if (status != std::errc{} || end != text.data() + text.size()) {
            throw ValueError("the rank of '" + name + "', '" + std::string(text) + "', is not a whole number");
        }
        if (rank < 1) throw ValueError("the rank of '" + name + "' must be at least 1, not " + std::string(text));
        return rank;
    }

    /// "; there are q_proj, k_proj, v_proj": tails of as many components as the pattern has, nearest first.
    static std::string suggestion(const Entry& entry, std::span<const std::string> modules) {
        std::vector<std::pair<std::size_t, std::string>> tails;
        for (const std::string& module : modules) {
            std::string_view rest = module;
            for (std::int64_t i = 0; i < components(entry); ++i) static_cast<void>(detail::pop_component(rest));
            std::string tail = module.substr(rest.empty() ? 0 : rest.size() + 1);
            const std::size_t distance = detail::edit_distance(entry.pattern, tail);
            tails.emplace_back(distance, std::move(tail));
        }
        std::sort(tails.begin(), tails.end());
        tails.erase(std::unique(tails.begin(), tails.end()), tails.end());
        constexpr std::size_t kNames = 5;
        std::string text;
        for (std::size_t i = 0; i < std::min(kNames, tails.size()); ++i) text += (i == 0 ? "" : ", ") + tails[i].second;
        return text.empty() ? ": the model has no layer that could be factorised" : "; the nearest names are " + text;
    }

    std::vector<Entry> entries_;
};

}  // namespace lowrank
