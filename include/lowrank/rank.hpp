// lowrank - what rank to use: rules, what a rank costs, and when factorising saves nothing.
// SPDX-License-Identifier: MIT
//
// A d_in x d_out weight of rank r is stored in r (d_in + d_out) numbers instead of d_in d_out. The break-even rank
// is r* = d_in d_out / (d_in + d_out): at or above it a layer should stay dense, and RankChoice says so.
//
//     RankRule rule = relative_error(0.1).aligned(16).clamped(64, 1024);
//     RankChoice choice = choose_rank(rule, 2560, 6912, spectrum);
//     if (!choice.dense) ... choice.rank ...
#pragma once

#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <sstream>
#include <string>

namespace lowrank {

/// Numbers that the two factors hold: rank (d_in + d_out).
constexpr std::int64_t low_rank_parameters(std::int64_t d_in, std::int64_t d_out, std::int64_t rank) {
    return rank * (d_in + d_out);
}

/// d_in d_out / (d_in + d_out), the rank at which both forms cost the same; 0 for an empty weight.
constexpr double break_even_rank(std::int64_t d_in, std::int64_t d_out) {
    if (d_in <= 0 || d_out <= 0) return 0;
    return static_cast<double>(d_in) * static_cast<double>(d_out) / static_cast<double>(d_in + d_out);
}

/// True if factors of this rank hold fewer numbers than the weight.
constexpr bool saves_parameters(std::int64_t d_in, std::int64_t d_out, std::int64_t rank) {
    return low_rank_parameters(d_in, d_out, rank) < d_in * d_out;
}

/// How to choose a rank. Made by the four functions below; alignment and clamp are optional.
class RankRule {
public:
    enum class Kind { fixed, energy, error, share };

    RankRule(Kind kind, double value) : kind_(kind), value_(value) {}

    /// Round to a multiple, which kernels like. Rules that promise a size (fixed, share) round down, but not to 0;
    /// rules that promise an error (energy, error) round up.
    [[nodiscard]] RankRule aligned(std::int64_t multiple) const {
        if (multiple < 1) throw ValueError("a rank cannot be aligned to a multiple of " + std::to_string(multiple));
        RankRule rule(*this);
        rule.multiple_ = multiple;
        return rule;
    }

    /// Keep the rank within [lowest, highest], whatever the rule and the alignment say.
    [[nodiscard]] RankRule clamped(std::int64_t lowest, std::int64_t highest) const {
        if (lowest < 1 || highest < lowest) {
            throw ValueError("ranks cannot be clamped to [" + std::to_string(lowest) + ", " + std::to_string(highest) +
                             "]: it takes 1 <= lowest <= highest");
        }
        RankRule rule(*this);
        rule.lowest_ = lowest;
        rule.highest_ = highest;
        return rule;
    }

    [[nodiscard]] Kind kind() const { return kind_; }
    [[nodiscard]] double value() const { return value_; }
    [[nodiscard]] std::int64_t multiple() const { return multiple_; }
    [[nodiscard]] std::int64_t lowest() const { return lowest_; }
    [[nodiscard]] std::int64_t highest() const { return highest_; }

    /// True if the rank depends on the singular values and not on the shape alone.
    [[nodiscard]] bool needs_spectrum() const { return kind_ == Kind::energy || kind_ == Kind::error; }

    /// "rank 384", "share 0.5, multiple of 16", for reports and messages.
    [[nodiscard]] std::string describe() const {
        constexpr const char* kNames[] = {"rank", "energy", "error", "share"};
        std::ostringstream text;
        text << kNames[static_cast<int>(kind_)] << ' ' << value_;
        if (multiple_ > 1) text << ", multiple of " << multiple_;
        if (lowest_ > 1) text << ", at least " << lowest_;
        if (highest_ < std::numeric_limits<std::int64_t>::max()) text << ", at most " << highest_;
        return text.str();
    }

    friend bool operator==(const RankRule&, const RankRule&) = default;

private:
    Kind kind_;
    double value_;
    std::int64_t multiple_ = 1;
    std::int64_t lowest_ = 1;
    std::int64_t highest_ = std::numeric_limits<std::int64_t>::max();
};

/// Exactly this rank. Throws ValueError below 1.
inline RankRule fixed_rank(std::int64_t rank) {
    if (rank < 1) throw ValueError("a rank must be at least 1, not " + std::to_string(rank));
    if (rank > (std::int64_t{1} << 53)) throw ValueError("a rank of " + std::to_string(rank) + " is beyond any matrix");
    return {RankRule::Kind::fixed, static_cast<double>(rank)};
}

namespace detail {
inline RankRule fraction_rule(RankRule::Kind kind, const char* what, double value, bool accepted) {
    if (!is_finite(value) || !accepted) {
        std::ostringstream text;
        text << what << " of " << value;
        throw ValueError(text.str());
    }
    return {kind, value};
}
}  // namespace detail

/// The smallest rank that keeps this part of sum s_i^2, in (0, 1].
inline RankRule energy_kept(double energy) {
    return detail::fraction_rule(RankRule::Kind::energy,
                                 "the energy to keep must lie in (0, 1], which excludes a value", energy,
                                 energy > 0 && energy <= 1);
}

/// The smallest rank with ||W - W1 W2||_F <= error ||W||_F, error in [0, 1).
inline RankRule relative_error(double error) {
    return detail::fraction_rule(RankRule::Kind::error, "a relative error must lie in [0, 1), which excludes a value",
                                 error, error >= 0 && error < 1);
}

/// The largest rank whose factors hold at most this part of the weight's parameters, in (0, 1); at least 1.
inline RankRule parameter_share(double share) {
    return detail::fraction_rule(RankRule::Kind::share,
                                 "a share of the parameters must lie in (0, 1), which excludes a value", share,
                                 share > 0 && share < 1);
}

/// Leading singular values of a weight, descending, and the square of its Frobenius norm. `values` may be cut off.
struct SpectrumView {
    std::span<const double> values;
    double squared_norm = 0;
};

/// The rank, and whether the layer should rather stay dense because the factors would not be smaller.
struct RankChoice {
    std::int64_t rank = 0;
    bool dense = false;

    friend bool operator==(const RankChoice&, const RankChoice&) = default;
};

namespace detail {

/// Smallest r with sum_{i>r} s_i^2 <= allowed, or nothing if more values than given are needed. `full` is the number
/// of values that the whole spectrum has. O(values).
inline std::optional<std::int64_t> rank_with_tail(const SpectrumView& spectrum, std::int64_t full, double allowed) {
    const auto count = static_cast<std::int64_t>(spectrum.values.size());
    double tail = 0;  // beyond the values given; exactly nothing if they are all there, where norm - head would not be
    if (count < full) {
        double head = 0;
        for (const double s : spectrum.values) head += s * s;
        tail = std::max(0.0, spectrum.squared_norm - head);
        if (tail > allowed) return std::nullopt;
    }
    std::int64_t rank = count;
    for (; rank > 0; --rank) {  // from the small end, so that the tail keeps its relative accuracy
        const double s = spectrum.values[static_cast<std::size_t>(rank - 1)];
        if (tail + s * s > allowed) break;
        tail += s * s;
    }
    return rank;
}

}  // namespace detail

/// Applies a rule to a d_in x d_out weight. `spectrum` is read only if `rule.needs_spectrum()`. Returns nothing if
/// the rule needs more singular values than `spectrum` holds. Throws ShapeError for an empty weight, ValueError for a
/// fixed rank above min(d_in, d_out).
inline std::optional<RankChoice> try_choose_rank(const RankRule& rule, std::int64_t d_in, std::int64_t d_out,
                                                 const SpectrumView& spectrum = {}) {
    const std::int64_t full = std::min(d_in, d_out);
    if (full < 1) throw ShapeError("a weight of " + shape_string(d_in, d_out) + " has no rank to choose");
    std::optional<std::int64_t> rank;
    bool round_up = true;
    switch (rule.kind()) {
        case RankRule::Kind::fixed:
            if (rule.value() > static_cast<double>(full)) {
                throw ValueError("a rank of " + std::to_string(static_cast<std::int64_t>(rule.value())) +
                                 " is above min(d_in, d_out) = " + std::to_string(full) + " of a weight of " +
                                 shape_string(d_in, d_out));
            }
            rank = static_cast<std::int64_t>(rule.value());
            round_up = false;
            break;
        case RankRule::Kind::share:
            rank = static_cast<std::int64_t>(rule.value() * break_even_rank(d_in, d_out));
            round_up = false;
            break;
        case RankRule::Kind::energy:
            rank = detail::rank_with_tail(spectrum, full, (1 - rule.value()) * spectrum.squared_norm);
            break;
        case RankRule::Kind::error:
            rank = detail::rank_with_tail(spectrum, full, rule.value() * rule.value() * spectrum.squared_norm);
            break;
    }
    if (!rank) return std::nullopt;
    const std::int64_t multiple = std::min(rule.multiple(), full);  // above it the same, short of overflow
    std::int64_t aligned = (*rank + (round_up ? multiple - 1 : 0)) / multiple * multiple;
    if (!round_up) aligned = std::max(aligned, std::min(multiple, full));
    const std::int64_t clamped = std::clamp(aligned, rule.lowest(), rule.highest());
    RankChoice choice{std::clamp(clamped, std::int64_t{1}, full), false};
    choice.dense = !saves_parameters(d_in, d_out, choice.rank);
    return choice;
}

/// As try_choose_rank, for a spectrum that is known to suffice: all min(d_in, d_out) values, or a rule of the shape
/// alone. Throws ValueError where it does not.
inline RankChoice choose_rank(const RankRule& rule, std::int64_t d_in, std::int64_t d_out,
                              const SpectrumView& spectrum = {}) {
    if (const auto choice = try_choose_rank(rule, d_in, d_out, spectrum)) return *choice;
    throw ValueError("the rule '" + rule.describe() + "' needs more than the " +
                     std::to_string(spectrum.values.size()) + " singular values given of a weight of " +
                     shape_string(d_in, d_out));
}

}  // namespace lowrank
