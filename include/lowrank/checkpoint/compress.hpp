// lowrank - compress(): a checkpoint folder in, a smaller one out.
// SPDX-License-Identifier: MIT
//
// One pass over the files in the order of their bytes. A selected layer is read, factorised and written before the
// next is touched, and copied bytes leave resident memory behind the copy, so memory is bounded by one layer (its
// weight, its decomposition, its factors), never by a shard or the model. The shards keep their names and contents:
// a layer's factors (factor_tensors.hpp) take its weight's place, every other tensor is copied bit for bit, and so is
// every other file of the folder, subfolders too, except version control and download caches (.git, .cache) at its
// top. A safetensors file that is not part of the model counts as such a file, with a warning.
//
//     lowrank::cpu::Context cpu;
//     lowrank::ModelFolder model("in");
//     auto plan = lowrank::plan_compression(model, lowrank::RankConfig::parse("q_proj=384,o_proj=384"));
//     lowrank::OutputFolder out("out", {.source = "in"});
//     lowrank::CompressReport report = lowrank::compress(cpu, model, plan, out);
#pragma once

#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/copy_files.hpp>
#include <lowrank/checkpoint/factor_tensors.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/checkpoint/output_folder.hpp>
#include <lowrank/checkpoint/report.hpp>
#include <lowrank/checkpoint/safetensors_writer.hpp>
#include <lowrank/checkpoint/shard_index.hpp>
#include <lowrank/decompose.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/stopwatch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace lowrank {

/// Told after each layer, and now and then while bytes are copied.
struct CompressProgress {
    const CompressedLayer* layer = nullptr;  ///< the one just finished; null while copying
    std::int64_t done = 0;                   ///< layers finished
    std::int64_t layers = 0;                 ///< that are selected
    double seconds = 0;                      ///< since the start
    std::optional<double> seconds_left;      ///< an estimate, once there is something to base it on
};

struct CompressOptions {
    Method method = Method::automatic;
    double excess = 1e-3;    ///< of the fast method, see DecomposeOptions
    std::uint64_t seed = 0;  ///< of the fast method
    std::function<void(const CompressProgress&)> progress = {};
};

/// The files of the model's folder that are copied as they are, relative to it, sorted. Throws IoError.
inline std::vector<std::filesystem::path> other_files(const ModelFolder& model) {
    std::set<std::string> skipped = {".git", ".cache", ModelFolder::kIndexFile};
    for (const auto& shard : model.shards()) skipped.insert(shard->path().filename().string());
    return list_files(model.folder(), skipped);
}

namespace detail {

/// How long the rest will take: factorising and copying each at the rate seen so far.
class RemainingTime {
public:
    void add_layer(const CompressedLayer& layer) { layers_.left += work(layer); }
    void add_bytes(std::uint64_t bytes) { bytes_.left += static_cast<double>(bytes); }
    void layer_done(const CompressedLayer& layer, double seconds) { layers_.finish(work(layer), seconds); }
    void bytes_done(std::uint64_t bytes, double seconds) { bytes_.finish(static_cast<double>(bytes), seconds); }

    [[nodiscard]] std::optional<double> seconds() const {
        if (layers_.left > 0 && layers_.done == 0) return std::nullopt;  // layers dominate
        return layers_.seconds_left() + bytes_.seconds_left();
    }

private:
    struct Kind {
        double left = 0;
        double done = 0;
        double seconds = 0;

        void finish(double amount, double time) {
            left = std::max(0.0, left - amount);
            done += amount;
            seconds += time;
        }
        [[nodiscard]] double seconds_left() const { return done > 0 ? left * seconds / done : 0; }
    };

    /// Proportional to the cost of a decomposition, d_in d_out min(d_in, d_out); what stays dense costs nothing.
    static double work(const CompressedLayer& layer) {
        if (layer.choice && layer.choice->dense) return 0;
        return static_cast<double>(layer.d_in) * static_cast<double>(layer.d_out) *
               static_cast<double>(std::min(layer.d_in, layer.d_out));
    }

    Kind layers_;
    Kind bytes_;
};

/// Writes a layer's factors, unless their rank saves nothing.
template <Scalar T, ComputeScalar C>
void write_factors(SafetensorsWriter& file, const PlannedLayer& layer, const Factors<C>& factors,
                   const std::string& subject, CompressedLayer& result) {
    result.choice = RankChoice{factors.rank(), !factors.saves_parameters()};
    result.method = factors.method;
    if (result.choice->dense) return;
    result.relative_error = factors.relative_error;
    write_matrix(file, layer.module + ".w1", transposed_as<T>(factors.w2.view(), subject));
    write_matrix(file, layer.module + ".w2", transposed_as<T>(factors.w1.view(), subject));
}

/// Factorises a layer as it is.
template <class Context>
struct PlainFactoriser {
    Context& context;
    const CompressOptions& options;

    template <class T>
    void write(SafetensorsWriter& file, const SafetensorsReader& shard, const PlannedLayer& layer,
               CompressedLayer& result) const {
        const std::string subject = path_text(shard.path()) + ": tensor " + name_text(layer.weight->name);
        const Matrix<T> weight = shard.template matrix<T>(*layer.weight);
        shard.release(*layer.weight);
        const auto factors = decompose(context, weight,
                                       {.rank = layer.rule,
                                        .layout = WeightLayout::out_in,
                                        .method = options.method,
                                        .excess = options.excess,
                                        .singular_values = false,
                                        .seed = options.seed,
                                        .name = subject});
        write_factors<T>(file, layer, factors, subject, result);
    }
};

/// Writes the compressed folder; `Factoriser` makes the factors of a layer that is not known to stay dense.
template <class Factoriser>
class Compressor {
public:
    Compressor(Factoriser factorise, const ModelFolder& model, const CompressPlan& plan, OutputFolder& out,
               const CompressOptions& options)
        : factorise_(std::move(factorise)), model_(model), plan_(plan), out_(out), options_(options) {}

    CompressReport run() {
        report_ = report_plan(model_, plan_);
        report_.output = out_.target();
        report_.method = options_.method;
        report_.threads = factorise_.context.threads();
        report_.exact = true;
        report_.after = {};
        require_space();
        estimate();
        for (const auto& file : others_) lowrank::copy_file(model_.folder(), out_.folder(), file);
        for (const auto& shard : model_.shards()) write_shard(*shard);
        write_index();
        out_.commit();
        report_.seconds = watch_.seconds();
        report_.peak_resident_bytes = peak_resident_bytes();
        return std::move(report_);
    }

private:
    /// A full disk is better found now than after all the work.
    void require_space() const {
        if (!plan_.exact) return;
        std::error_code error;
        const auto space = std::filesystem::space(out_.folder(), error);
        if (error || space.available >= plan_.after.bytes) return;
        throw IoError(path_text(out_.target()) + ": needs " + std::to_string(plan_.after.bytes) +
                      " bytes, but the file system has only " + std::to_string(space.available) + " left");
    }

    void estimate() {
        others_ = other_files(model_);
        for (const auto& file : others_) {
            const bool weights = file.extension() == ".safetensors";
            if (weights)
                report_.warnings.push_back(path_text(file) + " is not part of the model and is copied as it is");
        }
        for (const CompressedLayer& layer : report_.layers) remaining_.add_layer(layer);
        for (const auto& shard : model_.shards()) {
            for (const TensorInfo& tensor : shard->tensors()) {
                if (plan_.find(tensor) == nullptr) remaining_.add_bytes(tensor.bytes());
            }
        }
    }

    void write_shard(const SafetensorsReader& shard) {
        const std::size_t first = done_;
        std::size_t count = 0;
        for (const TensorInfo& tensor : shard.tensors()) count += plan_.find(tensor) != nullptr ? 1 : 0;
        const std::span<CompressedLayer> layers = std::span(report_.layers).subspan(first, count);

        const std::string name = shard.path().filename().string();
        SafetensorsWriter file(out_.folder() / name, header_capacity(shard, layers));
        for (std::size_t i = 0; i < shard.tensors().size(); ++i) {
            const TensorInfo& tensor = shard.tensors()[i];
            const PlannedLayer* layer = plan_.find(tensor);
            if (layer == nullptr) {
                copy_tensor(file, shard, tensor);
                continue;
            }
            if (i + 1 < shard.tensors().size()) shard.prefetch(shard.tensors()[i + 1]);
            compress_layer(file, shard, *layer, report_.layers[done_]);
            ++done_;
            tell(&report_.layers[done_ - 1]);
        }
        file.commit(compressed_metadata(shard.metadata(), layers));
        for (const TensorInfo& tensor : file.tensors()) {
            report_.after.parameters += tensor.elements();
            report_.after.bytes += tensor.bytes();
            if (model_.index()) weight_map_.emplace(tensor.name, name);
        }
    }

    void copy_tensor(SafetensorsWriter& file, const SafetensorsReader& shard, const TensorInfo& tensor) {
        file.begin(tensor.name, tensor.dtype, tensor.shape);
        Stopwatch piece_watch;
        shard.stream(tensor, [&](std::span<const std::byte> piece) {
            file.write(piece);
            remaining_.bytes_done(piece.size(), piece_watch.seconds());
            piece_watch = Stopwatch();
            tell(nullptr);
        });
    }

    void compress_layer(SafetensorsWriter& file, const SafetensorsReader& shard, const PlannedLayer& layer,
                        CompressedLayer& result) {
        const Stopwatch own;
        if (!result.choice || !result.choice->dense) {
            visit_scalar(layer.weight->dtype, [&]<class T>(std::type_identity<T>) {
                factorise_.template write<T>(file, shard, layer, result);
            });
        }
        if (result.choice->dense) copy_tensor(file, shard, *layer.weight);
        result.seconds = own.seconds();
        // By the plan: the estimate counted a layer whose rule chose dense like any other.
        remaining_.layer_done(planned(layer), *result.seconds);
    }

    void write_index() const {
        if (!model_.index()) return;
        ShardIndex index{.weight_map = weight_map_, .metadata = model_.index()->metadata};
        if (index.metadata.is_null()) index.metadata = nlohmann::ordered_json::object();
        index.metadata["total_size"] = report_.after.bytes;
        if (index.metadata.contains("total_parameters")) index.metadata["total_parameters"] = report_.after.parameters;
        write_shard_index(index, out_.folder() / ModelFolder::kIndexFile);
    }

    void tell(const CompressedLayer* layer) const {
        if (!options_.progress) return;
        options_.progress({layer, static_cast<std::int64_t>(done_), static_cast<std::int64_t>(report_.layers.size()),
                           watch_.seconds(), remaining_.seconds()});
    }

    Factoriser factorise_;
    const ModelFolder& model_;
    const CompressPlan& plan_;
    OutputFolder& out_;
    const CompressOptions& options_;
    Stopwatch watch_;
    CompressReport report_;
    std::vector<std::filesystem::path> others_;
    RemainingTime remaining_;
    std::map<std::string, std::string> weight_map_;
    std::size_t done_ = 0;  // layers
};

}  // namespace detail

/// Carries out `plan`, made from the same `model`, into `out`, and commits it. Throws IoError if a file cannot be read
/// or written, ValueError for a weight with a NaN or an infinity; `out` is then never committed.
template <class Context>
CompressReport compress(Context& context, const ModelFolder& model, const CompressPlan& plan, OutputFolder& out,
                        const CompressOptions& options = {}) {
    using Factoriser = detail::PlainFactoriser<Context>;
    return detail::Compressor<Factoriser>({context, options}, model, plan, out, options).run();
}

}  // namespace lowrank
