// lowrank - how far subspace iteration lets its backend round: until that costs a part of what the excess allows.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/subspace_model.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lowrank::detail {

/// What is known of the spectrum: of the block's directions, and the sum of all.
struct SeenSpectrum {
    std::vector<double> theta;
    double trace = 0;
};

/// For a backend of subspace_iteration.hpp.
template <class Backend>
class BearableRounding {
public:
    BearableRounding(Backend& backend, const SubspaceProblem& problem) : backend_(backend), problem_(problem) {}

    /// Mean square of the relative errors.
    [[nodiscard]] double variance() const {
        if constexpr (kRounds) return backend_.rounding_variance();
        return 0;
    }
    /// Leading directions that are not rounded.
    [[nodiscard]] std::int64_t deflated() const { return deflated_; }
    /// Energy that is lost to the rounding of A and G.
    [[nodiscard]] double lost() const { return lost_; }

    /// Has the backend round less if that costs more than a small part of the shortfall that is allowed: nothing of the
    /// leading directions, `leading(count)`, if these are at most `most`, else nothing at all. `again` then looks anew.
    template <class Leading, class Again>
    void refine(SeenSpectrum& seen, std::int64_t most, Leading&& leading, Again&& again) {
        if constexpr (kRounds) {
            if (rounds_less(seen, most, leading, again)) return;
            lost_ = 0;
            deflated_ = 0;
            backend_.refine();
            again();
        }
    }
    /// False where leaving out leading directions does not do; some may be left out then, nevertheless.
    template <class Leading, class Again>
    bool rounds_less(SeenSpectrum& seen, std::int64_t most, Leading&& leading, Again&& again) {
        if constexpr (kRounds) {
            if (variance() == 0 || bearable(seen, deflated_)) return true;
            if constexpr (requires(typename Backend::Block & q) { backend_.deflate(q, 1); }) {
                // Errors of the leading directions may hide the block's edge, and with it how many these are.
                bool hidden = !(seen.theta.back() > 0);
                for (std::int64_t count = kFewLeading; count <= most; count = next(count, most)) {
                    if (!hidden && !bearable(seen, count)) continue;
                    if (!backend_.deflate(leading(count), count)) break;
                    deflated_ = count;
                    again();
                    if (bearable(seen, count)) return true;
                    if (!hidden) break;
                    hidden = !(seen.theta.back() > 0);
                }
            }
            return false;
        }
        return true;
    }

private:
    static constexpr std::int64_t kFewLeading = 4;
    static constexpr bool kRounds = requires(Backend & backend) { backend.refine(); };

    /// Four times as many, the last time `most`.
    static std::int64_t next(std::int64_t count, std::int64_t most) {
        return count < most ? std::min(4 * count, most) : most + 1;
    }
    /// Of G, if `count` leading directions are not.
    bool bearable(const SeenSpectrum& seen, std::int64_t count) {
        SubspaceProblem rest = problem_;
        rest.trace = seen.trace;
        const std::vector<double> flat = without_leading(seen.theta, count, rest);
        lost_ = lost_in_gram(flat, rest, mean_outside(flat, rest), variance());
        const double tail = seen.trace - sum_of_leading(seen.theta, problem_.rank);
        return lost_ < allowed_shortfall(problem_, tail, kRoundingPart);
    }

    Backend& backend_;
    const SubspaceProblem& problem_;
    std::int64_t deflated_ = 0;
    double lost_ = 0;
};

}  // namespace lowrank::detail
