// generate - the refit of a compressed model: two streams through its blocks, and the solution for each layer.
// SPDX-License-Identifier: MIT
#include "refit.hpp"

#include "activations.hpp"
#include "block.hpp"
#include "copy_rows.hpp"
#include "embedding.hpp"
#include "kernels.hpp"
#include "moment_sums.hpp"
#include "rope.hpp"

#include <lowrank/calibration.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/cpu/decompose_calibrated.hpp>
#include <lowrank/cpu/side_weighting.hpp>
#include <lowrank/decompose_calibrated.hpp>
#include <lowrank/workspace.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace engine {

namespace {

using lowrank::Matrix;
using lowrank::MatrixView;
using lowrank::Scalar;
using lowrank::cpu::Context;
using lowrank::cpu::Transpose;

/// Of Xc^T Xc, relative to the mean of its diagonal: where the text says little, the weight stays as it is. With 1e-2
/// the calibration's own text loses and other texts lose more; 1 is as good on other texts and worse on its own
/// (docs/results/data-aware.md).
constexpr double kDamping = 0.1;

/// sum a^T b over rows, multiplied and added up as in moment_sums.hpp.
template <Scalar T>
Matrix<double> cross_sum(const Context& context, MatrixView<const T> a, MatrixView<const float> b) {
    Matrix<float> product(a.cols(), b.cols());
    Matrix<double> sum(a.cols(), b.cols());
    for (std::int64_t first = 0; first < a.rows(); first += kMomentRows) {
        const std::int64_t rows = std::min(kMomentRows, a.rows() - first);
        gemm(context, 1.0F, a.block(first, 0, rows, a.cols()), Transpose::yes, b.block(first, 0, rows, b.cols()),
             Transpose::no, 0.0F, product.view(), lowrank::cpu::Operands::rounded);
        context.parallel_for(sum.rows(), [&](std::int64_t i) {
            for (std::int64_t j = 0; j < sum.cols(); ++j) sum(i, j) += static_cast<double>(product(i, j));
        });
    }
    return sum;
}

/// What the layers that read one input are fitted by.
class Fit {
public:
    /// `drifted` are the inputs Xc, `drift` is X - Xc, `residual` R or empty: a row for each token.
    template <Scalar T>
    Fit(const Context& context, MatrixView<const T> drifted, MatrixView<const float> drift,
        MatrixView<const float> residual, const std::string& name)
        : context_(context) {
        MomentSums<T> sums(drifted.cols());
        sums.add(context, drifted);
        moments_ = sums.take(context, "the inputs of " + name);
        weighting_ = lowrank::cpu::SideWeighting(moments_);
        drift_ = cross_sum(context, drifted, drift);
        if (!residual.empty()) residual_ = cross_sum(context, drifted, residual);
        using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
        Eigen::MatrixXd damped = Eigen::Map<const RowMajor>(moments_.gram().data(), moments_.width(), moments_.width());
        const double mean = damped.diagonal().mean();
        damped.diagonal().array() += mean > 0 ? kDamping * mean : 1;
        inverse_.compute(damped);
    }

    Fit(const Fit&) = delete;  // the weighting refers to the moments
    Fit& operator=(const Fit&) = delete;

    [[nodiscard]] lowrank::cpu::SideWeighting& weighting() { return weighting_; }

    /// W*, of W as files have it, d_out x d_in.
    [[nodiscard]] Matrix<float> target(const Matrix<float>& weight) const {
        Matrix<double> change(drift_.rows(), weight.rows());
        if (residual_.size() > 0) std::copy_n(residual_.data(), residual_.size(), change.data());
        gemm(context_, 1.0, drift_, Transpose::no, weight, Transpose::yes, 1.0, change.view());
        Matrix<float> result(weight.rows(), weight.cols());
        constexpr std::int64_t kColumns = 64;  // of a task
        context_.parallel_for((change.cols() + kColumns - 1) / kColumns, [&](std::int64_t task) {
            const std::int64_t first = task * kColumns;
            const std::int64_t count = std::min(kColumns, change.cols() - first);
            Eigen::MatrixXd part(change.rows(), count);
            for (std::int64_t i = 0; i < change.rows(); ++i) {
                for (std::int64_t j = 0; j < count; ++j) part(i, j) = change(i, first + j);
            }
            inverse_.solveInPlace(part);
            for (std::int64_t j = 0; j < count; ++j) {
                for (std::int64_t i = 0; i < change.rows(); ++i) {
                    result(first + j, i) = weight(first + j, i) + static_cast<float>(part(i, j));
                }
            }
        });
        return result;
    }

private:
    const Context& context_;
    lowrank::Moments moments_;
    lowrank::cpu::SideWeighting weighting_;
    Matrix<double> drift_, residual_;
    Eigen::LLT<Eigen::MatrixXd> inverse_;
};

/// T is what linear layers are stored in and read.
template <Scalar T>
class Refitter {
public:
    Refitter(const Context& context, const Refit& job, const std::filesystem::path& scratch,
             const std::function<void(const CalibrationProgress&)>& progress)
        : context_(context),
          job_(job),
          config_(job.config),
          folder_(job.model),
          progress_(progress),
          kernels_(kernels_for<T>(context.isa())),
          float_kernels_(kernels_for<float>(context.isa())),
          rope_(config_.rope, job.window),
          cache_(config_, job.window),
          at_(config_, job.window),
          scratch_(context.threads(), std::min(job.window, Attention<T>::kQueryBlock) * job.window),
          dense_x_(tokens(), config_.hidden),
          x_(tokens(), config_.hidden),
          next_(tokens(), config_.hidden),
          dense_input_(tokens(), std::max({config_.hidden, config_.query_size(), config_.intermediate})),
          input_(tokens(), dense_input_.cols()),
          store_(scratch) {
        for (const lowrank::PlannedLayer& layer : job.plan.layers) layers_.emplace(layer.module, &layer);
    }

    lowrank::FactorStore run() {
        const Embedding embedding(folder_, config_);
        for (std::int64_t i = 0; i < tokens(); ++i) {
            embedding.row(job_.tokens[static_cast<std::size_t>(i)], x_.row(i));
        }
        std::copy_n(x_.data(), x_.size(), dense_x_.data());
        for (std::int64_t i = 0; i < config_.layers; ++i) {
            module_ = "model.layers." + std::to_string(i);
            const Block<T> dense = load();
            Block<T> block = load();
            fit_attention(dense, block);
            fit_mlp(dense, block);
            progress_(
                {"refit", i + 1, config_.layers, static_cast<double>(i + 1) / static_cast<double>(config_.layers)});
        }
        return std::move(store_);
    }

private:
    [[nodiscard]] std::int64_t tokens() const { return static_cast<std::int64_t>(job_.tokens.size()); }

    Block<T> load() {
        Block<T> block = Block<T>::load(folder_, module_, config_);
        reserve(block);
        return block;
    }

    void reserve(const Block<T>& block) {
        std::size_t bytes = 0;
        block.each_group([&](const lowrank::LinearGroup<T>& group) {
            for (const std::int64_t rows : {std::int64_t{1}, job_.window}) {
                bytes = std::max(bytes, group.workspace_bytes(context_, rows));
            }
        });
        static_cast<void>(workspace_.reserve(bytes));
    }

    /// Calls body(pass, first row) for each window, its rows of `x` in the activations.
    template <class F>
    void each_window(const Matrix<float>& x, F&& body) {
        for (std::int64_t first = 0; first < tokens(); first += job_.window) {
            const std::int64_t rows = std::min(job_.window, tokens() - first);
            copy_rows<float>(context_, x.view().block(first, 0, rows, x.cols()), at_.x.view());
            body(Pass<T>{context_, kernels_, float_kernels_, at_, workspace_.reserve(0), scratch_, 0, rows}, first);
        }
    }

    /// The first columns of the inputs' buffers.
    static MatrixView<T> columns(Matrix<T>& buffer, std::int64_t width) {
        return buffer.view().block(0, 0, buffer.rows(), width);
    }

    /// The inputs of one kind in both streams: `make(block, pass)` leaves them in `at`.
    template <class F>
    void collect(const Block<T>& dense, const Block<T>& block, const Matrix<T>& at, F&& make) {
        const auto into = [&](const Block<T>& which, const Matrix<float>& x, Matrix<T>& buffer) {
            each_window(x, [&](const Pass<T>& pass, std::int64_t first) {
                make(which, pass);
                copy_rows<T>(context_, pass.input(at),
                             columns(buffer, at.cols()).block(first, 0, pass.rows, at.cols()));
            });
        };
        into(dense, dense_x_, dense_input_);
        into(block, x_, input_);
    }

    [[nodiscard]] const lowrank::PlannedLayer* planned(const std::string& module) const {
        const auto found = layers_.find(module);
        return found == layers_.end() ? nullptr : found->second;
    }
    [[nodiscard]] static bool stays_dense(const lowrank::PlannedLayer* layer) {
        return layer == nullptr || layer->choice->dense;
    }

    /// For the layers of those names, which read the collected inputs: null if all of them stay dense.
    std::unique_ptr<Fit> fit(std::int64_t width, bool with_residual, std::initializer_list<const char*> readers) {
        if (std::all_of(readers.begin(), readers.end(),
                        [&](const char* name) { return stays_dense(planned(module_ + name)); }))
            return nullptr;
        const MatrixView<const T> intended = columns(dense_input_, width);
        const MatrixView<const T> drifted = columns(input_, width);
        if (with_residual) {
            context_.parallel_for(tokens(), [&](std::int64_t i) {
                for (std::int64_t j = 0; j < x_.cols(); ++j) next_(i, j) = dense_x_(i, j) - x_(i, j);
            });
        }
        auto difference = Matrix<float>::uninitialized(tokens(), width);
        context_.parallel_for(tokens(), [&](std::int64_t i) {
            for (std::int64_t j = 0; j < width; ++j) {
                difference(i, j) = static_cast<float>(intended(i, j)) - static_cast<float>(drifted(i, j));
            }
        });
        return std::make_unique<Fit>(context_, drifted, const_view(difference),
                                     with_residual ? MatrixView<const float>(next_.view()) : MatrixView<const float>(),
                                     module_ + *readers.begin());
    }

    void fit_attention(const Block<T>& dense, Block<T>& block) {
        collect(dense, block, at_.attention_input, [](const Block<T>& which, const Pass<T>& pass) {
            which.input_norm().forward(pass, pass.at.attention_input);
        });
        {
            const auto inputs =
                fit(config_.hidden, false, {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj"});
            std::vector<AnyLinear<T>> qkv;
            qkv.push_back(solve(inputs, ".self_attn.q_proj", config_.hidden, config_.query_size(), config_.qkv_bias));
            qkv.push_back(solve(inputs, ".self_attn.k_proj", config_.hidden, config_.kv_size(), config_.qkv_bias));
            qkv.push_back(solve(inputs, ".self_attn.v_proj", config_.hidden, config_.kv_size(), config_.qkv_bias));
            block.attention().set_qkv(std::move(qkv));
            reserve(block);
        }
        collect(dense, block, at_.output_input, [&](const Block<T>& which, const Pass<T>& pass) {
            which.input_norm().forward(pass, pass.at.attention_input);
            which.attention().mix(pass, rope_, cache_);
        });
        {
            const auto inputs = fit(config_.query_size(), true, {".self_attn.o_proj"});
            block.attention().set_output(
                solve(inputs, ".self_attn.o_proj", config_.query_size(), config_.hidden, config_.output_bias));
        }
        reserve(block);
        advance(dense, block, &Activations<T>::output_input,
                [](const Block<T>& which, const Pass<T>& pass) { which.attention().output(pass); });
    }

    void fit_mlp(const Block<T>& dense, Block<T>& block) {
        collect(dense, block, at_.mlp_input,
                [](const Block<T>& which, const Pass<T>& pass) { which.mlp_norm()->forward(pass, pass.at.mlp_input); });
        {
            const auto inputs = fit(config_.hidden, false, {".mlp.gate_proj", ".mlp.up_proj"});
            std::vector<AnyLinear<T>> gate_up;
            gate_up.push_back(solve(inputs, ".mlp.gate_proj", config_.hidden, config_.intermediate, config_.mlp_bias));
            gate_up.push_back(solve(inputs, ".mlp.up_proj", config_.hidden, config_.intermediate, config_.mlp_bias));
            block.mlp().set_gate_up(std::move(gate_up));
            reserve(block);
        }
        collect(dense, block, at_.down_input, [](const Block<T>& which, const Pass<T>& pass) {
            which.expand(pass);
            which.mlp().activate(pass);
        });
        {
            const auto inputs = fit(config_.intermediate, true, {".mlp.down_proj"});
            block.mlp().set_down(
                solve(inputs, ".mlp.down_proj", config_.intermediate, config_.hidden, config_.mlp_bias));
        }
        reserve(block);
        advance(dense, block, &Activations<T>::down_input,
                [](const Block<T>& which, const Pass<T>& pass) { which.mlp().contract(pass); });
    }

    /// Both streams gain what `finish(block, pass)` makes of the collected inputs.
    template <class F>
    void advance(const Block<T>& dense, const Block<T>& block, Matrix<T> Activations<T>::*input, F&& finish) {
        const auto through = [&](const Block<T>& which, Matrix<float>& x, Matrix<T>& collected) {
            each_window(x, [&](const Pass<T>& pass, std::int64_t first) {
                Matrix<T>& at = at_.*input;
                copy_rows<T>(context_, columns(collected, at.cols()).block(first, 0, pass.rows, at.cols()), at.view());
                finish(which, pass);
                pass.each_row(
                    [&](std::int64_t row) { pass.kernels.add(x.row(first + row), at_.branch.row(row), x.cols()); });
            });
        };
        through(dense, dense_x_, dense_input_);
        through(block, x_, input_);
    }

    /// The layer of the new block, and its factors in the store. `inputs` may be null where the layer stays dense.
    AnyLinear<T> solve(const std::unique_ptr<Fit>& inputs, const char* name, std::int64_t d_in, std::int64_t d_out,
                       bool biased) {
        const std::string module = module_ + name;
        const lowrank::PlannedLayer* found = planned(module);
        if (stays_dense(found)) {
            if (found != nullptr) keep_spectrum(*found);
            return load_linear<T>(folder_, module, d_in, d_out, biased);
        }
        const lowrank::PlannedLayer& layer = *found;
        const Matrix<float> target = inputs->target(load_whole_weight(context_, folder_, module, d_in, d_out));
        lowrank::cpu::SideWeighting gradient;
        const auto sums = job_.statistics.gradient(module, context_);
        if (sums) gradient = lowrank::cpu::SideWeighting(*sums, lowrank::Calibration{}.damping);
        auto factors = lowrank::cpu::decompose_weighted(context_, const_view(target), {inputs->weighting(), gradient},
                                                        {.rank = lowrank::fixed_rank(layer.choice->rank),
                                                         .layout = lowrank::WeightLayout::out_in,
                                                         .singular_values = false,
                                                         .name = module});
        const lowrank::StoredLayer& first = *job_.factors.find(module);
        factors.spectrum = first.spectrum;
        factors.weighted_norm = first.weighted_norm;
        std::vector<float> bias;
        if (biased) bias = load_vector(folder_, module + ".bias", d_out);
        std::optional<AnyLinear<T>> result;
        lowrank::visit_scalar(layer.weight->dtype, [&]<class Stored>(std::type_identity<Stored>) {
            store_.put<Stored>(module, factors, 0, module);
            // As it will be read again, rounded.
            const lowrank::StoredLayer& stored = *store_.find(module);
            const auto read = [](const Matrix<Stored>& rounded) {
                Matrix<T> values(rounded.rows(), rounded.cols());
                std::transform(rounded.data(), rounded.data() + rounded.size(), values.data(),
                               [](Stored value) { return static_cast<T>(static_cast<float>(value)); });
                return values;
            };
            const Matrix<T> w1 = read(store_.input_factor<Stored>(stored, layer.choice->rank, d_in));
            const Matrix<T> w2 = read(store_.output_factor<Stored>(stored, layer.choice->rank, d_out));
            Matrix<T> w1_of_file(d_out, layer.choice->rank);
            for (std::int64_t i = 0; i < d_out; ++i) {
                for (std::int64_t k = 0; k < w2.rows(); ++k) w1_of_file(i, k) = w2(k, i);
            }
            result = lowrank::LowRankLinear<T>(w1.view(), w1_of_file.view(), lowrank::WeightLayout::out_in, bias);
        });
        return std::move(*result);
    }

    void keep_spectrum(const lowrank::PlannedLayer& layer) {
        const lowrank::StoredLayer& first = *job_.factors.find(layer.module);
        lowrank::CalibratedFactors<float> none;
        none.spectrum = first.spectrum;
        none.weighted_norm = first.weighted_norm;
        store_.put<float>(layer.module, none, 0, layer.module);
    }

    const Context& context_;
    const Refit& job_;
    const ModelConfig& config_;
    lowrank::ModelFolder folder_;
    const std::function<void(const CalibrationProgress&)>& progress_;
    Kernels<T> kernels_;
    Kernels<float> float_kernels_;
    Rope rope_;
    KvCache cache_;
    Activations<T> at_;
    Matrix<float> scratch_;
    Matrix<float> dense_x_, x_;      ///< the streams
    Matrix<float> next_;             ///< their difference
    Matrix<T> dense_input_, input_;  ///< of the layers at work
    lowrank::Workspace workspace_;
    std::map<std::string, const lowrank::PlannedLayer*> layers_;
    lowrank::FactorStore store_;
    std::string module_;
};

}  // namespace

bool can_refit(const ModelConfig& config) {
    return !config.parallel_residual;
}

lowrank::FactorStore refit(const Context& context, const Refit& job, const std::filesystem::path& scratch,
                           const std::function<void(const CalibrationProgress&)>& progress) {
    if (job.type == StorageType::bf16) return Refitter<lowrank::bf16>(context, job, scratch, progress).run();
    return Refitter<float>(context, job, scratch, progress).run();
}

}  // namespace engine
