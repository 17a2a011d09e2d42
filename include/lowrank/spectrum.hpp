// lowrank - Spectrum: the leading singular values of a weight, computed once for many choices of its rank.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/factors.hpp>
#include <lowrank/rank.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank {

struct Spectrum {
    std::vector<double> values;     ///< descending
    double squared_norm = 0;        ///< ||W||_F^2: the sum of the squares of all singular values
    double excess = 0;              ///< estimate for the last value's rank, see Factors; smaller ranks have less
    Method method = Method::exact;  ///< how they were obtained; never `automatic`

    /// What choose_rank() and try_choose_rank() take.
    [[nodiscard]] SpectrumView view() const { return {values, squared_norm}; }
    operator SpectrumView() const { return view(); }  // NOLINT(google-explicit-constructor)

    /// ||W - W_r||_F / ||W||_F for the best W_r of this rank, rank <= values.size(); 0 for W = 0.
    [[nodiscard]] double relative_error(std::int64_t rank) const {
        double rest = squared_norm;
        for (std::int64_t i = 0; i < rank; ++i) {
            rest -= values[static_cast<std::size_t>(i)] * values[static_cast<std::size_t>(i)];
        }
        return squared_norm > 0 ? std::sqrt(std::max(0.0, rest) / squared_norm) : 0;
    }
};

namespace detail {

/// The first `most` singular values of factors that were made with all that rank's.
template <class AnyFactors>
Spectrum spectrum_of(const AnyFactors& factors, std::int64_t most, double squared_norm) {
    Spectrum spectrum;
    spectrum.squared_norm = squared_norm;
    spectrum.excess = factors.excess;
    spectrum.method = factors.method;
    for (const auto s : factors.singular_values) {
        if (static_cast<std::int64_t>(spectrum.values.size()) < most) spectrum.values.push_back(static_cast<double>(s));
    }
    return spectrum;
}

}  // namespace detail

}  // namespace lowrank
