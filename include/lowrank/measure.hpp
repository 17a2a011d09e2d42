// lowrank - is it worth it? Measures a low-rank against a dense layer of the same shape, on this machine.
// SPDX-License-Identifier: MIT
//
// Fewer parameters are not less time everywhere: a rank just below break-even, a small layer, or a large X may not pay.
// Nothing in the library measures on its own account; `compress --plan --measure ROWS` does, for each shape of a plan.
//
//     const auto times = lowrank::measure_forward<lowrank::bf16>(cpu, {.d_in = 2560, .d_out = 6912, .rank = 512});
//     if (!times.low_rank_pays()) ...                       // keep the layer dense
#pragma once

#include <lowrank/linear.hpp>
#include <lowrank/low_rank_linear.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/stopwatch.hpp>
#include <lowrank/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowrank {

struct MeasuredShape {
    std::int64_t d_in = 0;
    std::int64_t d_out = 0;
    std::int64_t rank = 0;
    std::int64_t rows = 1;  ///< of X: 1 for decoding, the length of a prompt for prefill
};

struct MeasureOptions {
    double seconds = 0.2;  ///< spent on each of the two; one call at least
    /// Layers are measured in turn until they have so many bytes, so that none is in a cache when its turn comes, as
    /// in a model. 0 measures one layer, which stays there.
    std::size_t weight_bytes = std::size_t{256} << 20;
};

/// Median seconds of one forward.
struct ForwardTimes {
    double dense = 0;
    double low_rank = 0;

    [[nodiscard]] double speed_up() const { return dense / low_rank; }
    [[nodiscard]] bool low_rank_pays() const { return low_rank < dense; }
};

namespace detail {

/// Layers of one kind, called in turn.
template <class Layer, class T, class Context>
class MeasuredLayers {
public:
    MeasuredLayers(const Context& context, const Layer& layer, const Matrix<T>& x, std::size_t weight_bytes)
        : context_(&context),
          layers_(weight_bytes / std::max<std::size_t>(1, layer.weight_bytes()) + 1, layer),
          x_(&x),
          y_(x.rows(), layer.d_out()) {}

    double call() {
        const Layer& layer = layers_[turn_++ % layers_.size()];
        const Stopwatch watch;
        layer.forward(*context_, *x_, y_.view(), workspace_);
        const double seconds = watch.seconds();
        times_.push_back(seconds);
        return seconds;
    }
    void forget() { times_.clear(); }
    [[nodiscard]] double median() {
        const auto middle = times_.begin() + static_cast<std::ptrdiff_t>(times_.size() / 2);
        std::nth_element(times_.begin(), middle, times_.end());
        return *middle;
    }

private:
    const Context* context_;
    std::vector<Layer> layers_;
    const Matrix<T>* x_;
    Matrix<T> y_;
    Workspace workspace_;
    std::size_t turn_ = 0;
    std::vector<double> times_;
};

/// Numbers between -1/2 and 1/2: their values do not matter, but subnormals would.
template <class T>
Matrix<T> measured_matrix(std::int64_t rows, std::int64_t cols) {
    Matrix<T> matrix(rows, cols);
    for (std::size_t i = 0; i < matrix.size(); ++i)
        matrix.data()[i] = static_cast<T>(static_cast<float>(i % 31) / 31 - 0.5F);
    return matrix;
}

}  // namespace detail

/// Times both kinds of layer for T, in turns, with the context's threads and level. Needs about twice `weight_bytes` of
/// memory. Throws ShapeError for a negative size.
template <Scalar T, class Context>
ForwardTimes measure_forward(const Context& context, const MeasuredShape& shape, const MeasureOptions& options = {}) {
    const Matrix<T> x = detail::measured_matrix<T>(shape.rows, shape.d_in);
    const Linear<T> dense(detail::measured_matrix<T>(shape.d_in, shape.d_out), WeightLayout::in_out);
    const LowRankLinear<T> low_rank(detail::measured_matrix<T>(shape.d_in, shape.rank),
                                    detail::measured_matrix<T>(shape.rank, shape.d_out), WeightLayout::in_out);
    detail::MeasuredLayers<Linear<T>, T, Context> dense_layers(context, dense, x, options.weight_bytes);
    detail::MeasuredLayers<LowRankLinear<T>, T, Context> low_rank_layers(context, low_rank, x, options.weight_bytes);
    // The first call of each, in which threads and pages come to life, does not count.
    dense_layers.call();
    low_rank_layers.call();
    dense_layers.forget();
    low_rank_layers.forget();
    // Turns of a tenth of the time each: the clocks of many machines drift.
    constexpr int kTurns = 10;
    for (int turn = 0; turn < kTurns; ++turn) {
        for (double spent = 0; spent <= options.seconds / kTurns;) spent += dense_layers.call();
        for (double spent = 0; spent <= options.seconds / kTurns;) spent += low_rank_layers.call();
    }
    return {dense_layers.median(), low_rank_layers.median()};
}

}  // namespace lowrank
