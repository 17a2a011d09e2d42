// lowrank - factors by subspace iteration: the leading singular triplets alone.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gram_operator.hpp>
#include <lowrank/cpu/residual.hpp>
#include <lowrank/cpu/weight_scale.hpp>
#include <lowrank/decompose_options.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/subspace_iteration.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace lowrank::cpu::detail {

/// Triplets or eigenpairs of the leading part, and the estimate of how far they are from the best.
template <class Extraction>
struct LeadingPart {
    Extraction extraction;
    double excess = 0;
};

// Products with G of a usual run, Lanczos and residuals counted by their columns (7 where no pass is designed): the
// plan of GramOperator.
inline constexpr int kUsualProducts = 6;

/// For a G that is computed in T: the Gram matrix of the shorter side, `order`, of a matrix of that squared norm.
template <ComputeScalar T>
lowrank::detail::SubspaceProblem subspace_problem(std::int64_t order, std::int64_t long_side, std::int64_t rank,
                                                  double squared_norm, double excess) {
    // Rounding perturbs G by about u ||G||_F; the captured energy then loses at most 2 sqrt(rank) times that
    // (the sum of the leading eigenvalues is 1-Lipschitz in the nuclear norm of that rank). A tenth of the shortfall
    // that the excess allows, 2 excess tail, may go there. ||G||_F <= ||A||_F^2 is attained at rank one only: typical
    // weights lie a factor sqrt(order) below it, of which a quarter is claimed.
    const double unit = std::numeric_limits<T>::epsilon() / 2;
    const double norm = 4 * squared_norm / std::sqrt(static_cast<double>(order));
    const double least_tail = 10 * std::sqrt(static_cast<double>(rank)) * unit * norm / excess;
    // Rounding leaves noise of unit times the amplification in every column. A column that is a Ritz vector has it
    // along the leading directions, which orthonormalisation takes out again, but for unit times itself.
    constexpr double kMostAmplification = std::is_same_v<T, float> ? 1e6 : 1e12;
    constexpr double kMostRotated = std::is_same_v<T, float> ? 1e10 : 1e20;
    return {order,
            long_side,
            rank,
            squared_norm,
            excess,
            least_tail,
            std::numeric_limits<T>::epsilon(),
            kMostAmplification,
            kMostRotated};
}

/// Nothing if the operator's type cannot resolve the tail or the iteration stagnates.
template <class Operator>
std::optional<LeadingPart<typename Operator::Extraction>> iterate(Operator& gram,
                                                                  const lowrank::detail::SubspaceProblem& problem) {
    auto result = lowrank::detail::SubspaceIteration<Operator>(gram, problem).run();
    if (result.end != lowrank::detail::SubspaceEnd::converged) return std::nullopt;
    return LeadingPart<typename Operator::Extraction>{std::move(result.extraction), result.excess};
}

/// Computed in T, which may be wider than S.
template <ComputeScalar T, Scalar S>
std::optional<LeadingPart<LeadingTriplets<T>>> leading_part_in(const Context& context, MatrixView<const S> a,
                                                               const WeightScale& scale, int exponent,
                                                               std::int64_t rank, const DecomposeOptions& options) {
    const std::int64_t order = std::min(a.rows(), a.cols());
    GramOperator<S, T> gram(context, a, std::ldexp(T{1}, -exponent), options.seed,
                            lowrank::detail::block_columns(order, rank), kUsualProducts);
    return iterate(gram,
                   subspace_problem<T>(order, std::max(a.rows(), a.cols()), rank, scale.squared_norm, options.excess));
}

template <ComputeScalar T>
LeadingPart<LeadingTriplets<float>> narrowed(LeadingPart<LeadingTriplets<T>>&& part) {
    const auto narrow = [](const Matrix<T>& from) {
        auto to = Matrix<float>::uninitialized(from.rows(), from.cols());
        for (std::size_t i = 0; i < from.size(); ++i) to.data()[i] = static_cast<float>(from.data()[i]);
        return to;
    };
    LeadingTriplets<T>& wide = part.extraction;
    return {{std::move(wide.ritz_values), narrow(wide.long_side), narrow(wide.short_side)}, part.excess};
}

/// The leading `rank` triplets of 2^-exponent A, from float where that resolves the tail, else from double. Nothing if
/// neither does: then the weight is of about that rank, and the exact method tells.
template <Scalar S>
std::optional<LeadingPart<LeadingTriplets<compute_t<S>>>> leading_part(const Context& context, MatrixView<const S> a,
                                                                       const WeightScale& scale, int exponent,
                                                                       std::int64_t rank,
                                                                       const DecomposeOptions& options) {
    auto part = leading_part_in<compute_t<S>>(context, a, scale, exponent, rank, options);
    if constexpr (std::is_same_v<S, float>) {
        if (part) return part;
        if (auto wide = leading_part_in<double>(context, a, scale, exponent, rank, options)) {
            return narrowed(std::move(*wide));
        }
        return std::nullopt;
    } else {
        return part;
    }
}

/// W1 = U_r, W2 = S_r V_r^T from the first `rank` of the triplets. Entries of W1 for singular values of 0 are 0.
template <ComputeScalar T>
Factors<T> factors_from(const Context& context, const LeadingTriplets<T>& triplets, std::int64_t rank,
                        bool long_side_is_input) {
    const Matrix<T>& left = long_side_is_input ? triplets.long_side : triplets.short_side;
    const Matrix<T>& right = long_side_is_input ? triplets.short_side : triplets.long_side;
    std::vector<T> s(static_cast<std::size_t>(rank));
    for (std::size_t k = 0; k < s.size(); ++k) s[k] = static_cast<T>(std::sqrt(triplets.ritz_values[k]));
    Factors<T> factors;
    factors.w1 = Matrix<T>::uninitialized(left.rows(), rank);
    factors.w2 = Matrix<T>::uninitialized(rank, right.rows());
    constexpr std::int64_t kBlock = 64;  // of rows, which stay in the cache while their columns are read
    const auto for_blocks = [&](std::int64_t rows, auto&& body) {
        context.parallel_for((rows + kBlock - 1) / kBlock,
                             [&](std::int64_t part) { body(part * kBlock, std::min((part + 1) * kBlock, rows)); });
    };
    for_blocks(left.rows(), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            for (std::int64_t k = 0; k < rank; ++k) {
                const T value = s[static_cast<std::size_t>(k)];
                factors.w1(i, k) = !long_side_is_input ? left(i, k) : value > 0 ? left(i, k) / value : T{0};
            }
        }
    });
    for_blocks(right.rows(), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = 0; k < rank; ++k) {
            const T value = long_side_is_input ? s[static_cast<std::size_t>(k)] : T{1};
            for (std::int64_t j = begin; j < end; ++j) factors.w2(k, j) = value * right(j, k);
        }
    });
    for (std::size_t k = 1; k < s.size(); ++k) s[k] = std::min(s[k], s[k - 1]);  // equal ones differ by their rounding
    factors.singular_values = std::move(s);
    factors.method = Method::fast;
    return factors;
}

/// Singular values, from the squares; the first `count`.
inline std::vector<double> singular_values(const std::vector<double>& squares, std::int64_t count) {
    std::vector<double> s(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < s.size(); ++i) s[i] = std::sqrt(std::max(0.0, squares[i]));
    return s;
}

}  // namespace lowrank::cpu::detail
