// lowrank - Chebyshev-filtered subspace iteration: the leading eigenspace of a Gram matrix G = A^T A, on any backend.
// SPDX-License-Identifier: MIT
//
// A block of l = rank + oversampling orthonormal columns q is filtered by polynomials of G that are small on [0, a] and
// grow fast above (Zhou, Saad, Tiago, Chelikowsky 2006), then orthonormalised. With theta the eigenvalues of q^T G q,
// the energy captured is E = theta_1 + ... + theta_rank; what the best subspace would capture more is the shortfall.
//
// The cut a lies near theta_l, the edge of what the block can hold, and is mixed with the mean of the spectrum outside
// of it. Simulated for Gaussian matrices, wanted rank 0.15 n, this needs 7.9 rank columns of products for an excess of
// 1e-3, the first product of a normal block included; the cut at the mean alone needs 11.2.
//
// The shortfall is estimated, not assumed: from the gain in E that the last filter brought (subspace_model.hpp).
//
// Most blocks need none of that: they go through one pass that is designed beforehand (designed_pass.hpp), and come
// here when its residuals show that more is left than is allowed.
//
// A Backend does the heavy work; cpu/gram_operator.hpp is one and says what its members mean:
//
//     Block random_image(columns);                // G times random vectors
//     Block block(columns);                       // its entries still to be written
//     void apply(alpha, q, beta, z);              // z = alpha G q + beta z
//     void add(alpha, x, y);                      // y += alpha x
//     void scale(alpha, x);
//     void orthonormalize(q, scratch, bool before_extraction);
//     std::vector<double> ritz_values(q, z);      // z = G q
//     void rotate(x);                             // x = x V, V the vectors of the last ritz_values(); may be missing
//     Extraction extract(q, rank);                // Rayleigh-Ritz on A itself
//
// A backend whose apply() rounds its operands, for speed, also has
//
//     double rounding_variance();                 // mean square of the relative errors
//     void refine();                              // from here on apply() rounds nothing
//     bool deflate(q, count);                     // from here on apply() rounds nothing of what is along the first
//                                                 // columns of q: false if it cannot; may be missing, needs rotate()
//     std::vector<double> squared_norms(z);       // of the columns
//     double energy_lost_to_rounding(extraction); // of theta_1 + ... + theta_rank
//
// One for which a pass can be designed also has
//
//     Lanczos lanczos(columns, steps);            // by apply(): with spectrum(), shorter_spectrum()
//     Block vectors(lanczos, count);              // its leading Ritz vectors
//     std::pair<Block, Block> random_start(columns);  // random vectors and G times these
//     void project_out(v, x);                     // x -= v (v^T x)
//     Block joined(v, x);                         // side by side
//     std::vector<Residual> residuals(extraction);
#pragma once

#include <lowrank/bearable_rounding.hpp>
#include <lowrank/designed_pass.hpp>
#include <lowrank/filter_design.hpp>
#include <lowrank/filter_error.hpp>
#include <lowrank/subspace_model.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace lowrank::detail {

template <class Backend>
class SubspaceIteration {
public:
    using Extraction = typename Backend::Extraction;

    SubspaceIteration(Backend& backend, const SubspaceProblem& problem)
        : backend_(backend),
          problem_(problem),
          columns_(block_columns(problem.order, problem.rank)),
          rounding_(backend, problem_) {}

    SubspaceIteration(const SubspaceIteration&) = delete;
    SubspaceIteration& operator=(const SubspaceIteration&) = delete;

    SubspaceResult<Extraction> run() {
        using Block = typename Backend::Block;
        Block q;
        std::optional<double> known_left;  // measured after a designed pass that was not enough
        EstimatedSpectrum spectrum;
        if constexpr (kDesigns) {
            auto pass = DesignedPass<Backend>(backend_, problem_, rounding_).run();
            if (pass.done) return std::move(*pass.done);
            if (pass.left) {
                known_left = pass.left;
                q = std::move(pass.q);
                model_.add_filter(pass.filter);
                spectrum = std::move(pass.spectrum);
            }
        }
        Block z = backend_.block(columns_);
        if (!known_left) {
            q = backend_.random_image(columns_);
            backend_.orthonormalize(q, z, false);
            model_.add_filter(ZerosFilter{{0.0}, 1.0});
        }
        double last_energy = 0;
        for (int round = known_left ? 1 : 0; round < kMostRounds; ++round) {
            backend_.apply(1, q, 0, z);
            std::vector<double> theta = backend_.ritz_values(q, z);
            if (round == 0) {
                SeenSpectrum seen{std::move(theta), problem_.trace};
                const auto rotated = [&](auto /*count*/) -> const Block& {
                    if constexpr (requires { backend_.rotate(q); }) backend_.rotate(q);
                    return q;
                };
                rounding_.refine(seen, problem_.rank / 4, rotated, [&] {
                    backend_.apply(1, q, 0, z);
                    seen.theta = backend_.ritz_values(q, z);
                });
                theta = std::move(seen.theta);
            }
            const double before = sum_of_leading(theta, problem_.rank);
            const double tail = problem_.trace - before;
            if (!(tail > problem_.least_tail)) return {{}, 0, SubspaceEnd::unresolved};
            const double mean = mean_outside(theta, problem_);
            // What is not above the cut is filtered away, wanted or not.
            const double least_cut = problem_.unit * theta.front();
            if (!(theta[static_cast<std::size_t>(problem_.rank - 1)] > least_cut))
                return {{}, 0, SubspaceEnd::unresolved};
            const double cut = std::max(mean + kEdge * (theta.back() - mean), least_cut);
            const bool measured = known_left.has_value();
            const double here = measured     ? known_left.value()
                                : round == 0 ? tail
                                             : left_of(before - last_energy, theta, mean);
            known_left.reset();
            last_energy = before;
            const double expected = round == 1 && !measured ? kFirstDoubt * here : here;
            const bool enough = round > 0 && expected + lost_in_filters_ <= allowed(tail);
            bool last = enough;
            if (!enough) {
                const int wanted = round == 0 ? kFirstDegree : choose_degree(theta, cut, mean, expected, tail);
                const bool may_be_last = round > 0 || problem_.excess >= kLoose;
                const double bearable = may_be_last ? allowed(tail, kRoundingPart) : kFirstMayLose * tail;
                const Tamed tamed = tame(wanted, theta, cut, mean, bearable, q, z);
                filter(q, z, cut, tamed.degree);
                previous_ = model_;
                model_.add_filter(cut, tamed.degree);
                lost_in_filters_ = lost_in_filters_ * reduction(theta, mean) + tamed.lost;
                last = tamed.degree == wanted && may_be_last;
            }
            backend_.orthonormalize(q, z, last);
            if (!last) continue;
            Extraction extraction = backend_.extract(q, problem_.rank);
            const double after = sum_of_leading(extraction.ritz_values, problem_.rank);
            double left = expected;
            if (!spectrum.block.empty()) {
                left = left_by_residuals(extraction, spectrum);
            } else {
                if (!enough) {
                    left = left_of(after - lost_to_rounding_of(extraction) - before, extraction.ritz_values, mean);
                    if (round == 0) left *= kFirstDoubt;
                }
                left += lost_in_filters_;
            }
            const double now = problem_.trace - after;
            if (left <= allowed(now, round == 0 ? kAcceptFirst : kAccept))
                return {std::move(extraction), excess_of(left + rounding_.lost(), now), SubspaceEnd::converged};
        }
        return {{}, 0, SubspaceEnd::stagnated};
    }

private:
    // Enough for any spectrum seen; without them a hopeless case would run on.
    static constexpr int kMostRounds = 24;
    static constexpr double kEdge = 0.9;
    static constexpr int kFirstDegree = 3;
    static constexpr double kLoose = 5e-3;  ///< from here on one filter may do
    static constexpr int kMostDegree = 12;
    static constexpr double kAcceptFirst = 0.9;    ///< one that includes kFirstDoubt
    static constexpr double kFirstMayLose = 0.05;  ///< part of the tail: the next filter wins it back
    static constexpr double kFirstDoubt = 3;       ///< measured: what the first gain says is up to 2.8 times too little

    static constexpr bool kDesigns = requires(Backend & backend) { backend.lanczos(1, 1); };
    [[nodiscard]] double left_by_residuals(const Extraction& extraction, const EstimatedSpectrum& spectrum) {
        if constexpr (kDesigns) {
            return FilterError(spectrum, problem_)
                .shortfall(backend_.residuals(extraction), extraction.ritz_values,
                           [&](double mu) { return model_.squared_filter(mu); });
        }
        return 0;
    }
    [[nodiscard]] double lost_to_rounding_of(const Extraction& extraction) {
        if constexpr (requires { backend_.energy_lost_to_rounding(extraction); })
            return backend_.energy_lost_to_rounding(extraction);
        return 0;
    }

    [[nodiscard]] double allowed(double tail, double part = kAim) const {
        return allowed_shortfall(problem_, tail, part);
    }
    /// By how much the last filter reduced the shortfall, by the model.
    [[nodiscard]] double reduction(const std::vector<double>& theta, double mean) const {
        return model_.shortfall_shape(theta, problem_.rank, mean) /
               previous_.shortfall_shape(theta, problem_.rank, mean);
    }
    /// The shortfall that is left after the last filter gained `gain`.
    [[nodiscard]] double left_of(double gain, const std::vector<double>& theta, double mean) const {
        SubspaceProblem rest = problem_;
        const double doubt =
            uncertainty_of_gain(without_leading(theta, rounding_.deflated(), rest), rest, rounding_.variance());
        return bias(problem_.order) * shortfall(std::max(gain, 0.0) + doubt, reduction(theta, mean));
    }

    struct Tamed {
        int degree;
        double lost;  ///< to the rounding of its products
    };

    /// The largest degree up to `degree` whose filter does not drown the wanted directions in the leading ones, and
    /// whose products lose no more than `bearable` to their rounding. If that is less than `degree`, the columns of q,
    /// and z with them, first become Ritz vectors where the backend can do it: then each column grows by the filter's
    /// value at its own Ritz value, and holds little of the leading directions.
    template <class Block>
    Tamed tame(int degree, const std::vector<double>& theta, double cut, double mean, double bearable, Block& q,
               Block& z) {
        const double rounding = rounding_.variance();
        const auto largest = [&](double most_amplification, const std::vector<double>& held) {
            const double least = theta[static_cast<std::size_t>(problem_.rank - 1)];
            for (int d = degree;; --d) {
                const double lost = rounding > 0 ? lost_in_filter(theta, problem_, mean, rounding, cut, d, held) : 0.0;
                const double amplification = std::abs(chebyshev_value(d, cut, theta.front())) /
                                             std::max(1.0, std::abs(chebyshev_value(d, cut, least)));
                if (d == 1 || (amplification <= most_amplification && lost <= bearable)) return Tamed{d, lost};
            }
        };
        std::vector<double> held;
        if constexpr (requires { backend_.squared_norms(z); }) {
            if (rounding > 0) held = leaks(theta, backend_.squared_norms(z));
        }
        const Tamed mixed = largest(problem_.most_amplification, held);
        if constexpr (requires { backend_.rotate(q); }) {
            if (mixed.degree < degree) {
                backend_.rotate(q);
                backend_.rotate(z);
                // By the errors of the product that the Ritz vectors were found with.
                std::fill(held.begin(), held.end(), 4 * rounding / static_cast<double>(problem_.order));
                return largest(problem_.most_rotated, held);
            }
        }
        return mixed;
    }
    /// The smallest degree after which, by the model, the estimate will be as wanted when `here` is left now, all of
    /// which may show as gain.
    [[nodiscard]] int choose_degree(const std::vector<double>& theta, double cut, double mean, double here,
                                    double tail) const {
        const double shape = model_.shortfall_shape(theta, problem_.rank, mean);
        int degree = 1;
        for (; degree < kMostDegree; ++degree) {
            ErrorModel next = model_;
            next.add_filter(cut, degree);
            if (next.shortfall_shape(theta, problem_.rank, mean) / shape * bias(problem_.order) * here <= allowed(tail))
                break;
        }
        return degree;
    }

    /// q = T_degree((2 G - cut) / cut) q, given z = G q; z is scratch afterwards.
    template <class Block>
    void filter(Block& q, Block& z, double cut, int degree) {
        // z = t_1 = (2 / cut) G q - q, then t_(k+1) = (4 / cut) G t_k - 2 t_k - t_(k-1), in turns in the two blocks.
        backend_.scale(2 / cut, z);
        backend_.add(-1, q, z);
        for (int k = 1; k < degree; ++k) {
            backend_.apply(4 / cut, z, -1, q);
            backend_.add(-2, z, q);
            std::swap(q, z);
        }
        std::swap(q, z);
    }

    Backend& backend_;
    SubspaceProblem problem_;
    std::int64_t columns_;
    BearableRounding<Backend> rounding_;
    ErrorModel model_;
    ErrorModel previous_;         ///< before the last filter
    double lost_in_filters_ = 0;  ///< to the rounding of the blocks, so far
};

}  // namespace lowrank::detail
