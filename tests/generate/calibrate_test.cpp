// The statistics of small models on a text against those of torch.autograd (make-statistics-fixtures): every
// architecture and option, every instruction-set level.
#include "calibrate.hpp"
#include "config.hpp"

#include <lowrank/calibration.hpp>
#include <lowrank/checkpoint/safetensors.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/error.hpp>

#include "catch.hpp"
#include "generate/support.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <unistd.h>

using namespace lowrank;

namespace {

constexpr engine::CalibrationSize kSize = {.tokens = 37, .gradient_tokens = 32, .window = 16};
constexpr double kBound = 1e-4;

/// A file name that is free, and free again afterwards.
class TemporaryFile {
public:
    TemporaryFile() : path_(std::filesystem::temp_directory_path() / ("calibrate_test-" + std::to_string(::getpid()))) {
        std::filesystem::remove(path_);
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() { std::filesystem::remove(path_); }

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

engine::CalibrationResult calibrated(const std::string& model, const cpu::Context& context,
                                     const engine::CalibrationSize& size, const std::filesystem::path& out,
                                     engine::StorageType type = engine::StorageType::f32) {
    const engine::ModelConfig config = engine::read_config(test::model_folder(model));
    const engine::CalibrationText text{test::expected(model).ids, "0123456789abcdef"};
    return engine::calibrate(context, test::model_folder(model), config, text, size, type, out,
                             [](const engine::CalibrationProgress&) { return true; });
}

/// The largest |a_ij - b_ij| / sqrt(b_ii b_jj), and of the means relative to the root of the mean squares.
double difference(const Moments& a, const Moments& b) {
    REQUIRE(a.width() == b.width());
    REQUIRE(a.rows() == b.rows());
    double most = 0;
    const auto scale = [&](std::int64_t i) { return std::sqrt(b.gram()(i, i)); };
    for (std::int64_t i = 0; i < b.width(); ++i) {
        for (std::int64_t j = 0; j < b.width(); ++j) {
            const double found = std::abs(a.gram()(i, j) - b.gram()(i, j));
            if (!(found <= most * scale(i) * scale(j))) most = found / (scale(i) * scale(j));  // also for NaN
        }
    }
    for (std::size_t i = 0; i < b.sum().size(); ++i) {
        const double size = scale(static_cast<std::int64_t>(i)) * std::sqrt(static_cast<double>(b.rows()));
        most = std::max(most, std::abs(a.sum()[i] - b.sum()[i]) / size);
    }
    return most;
}

/// Of the gradients' sums where products are rounded to integers (lowrank/cpu/kernels/pack_fixed.hpp): of K terms, each
/// of two factors that are off by ||x|| / 32700 / sqrt(12), the error is sqrt(K / 6) / 32700 of the product's typical
/// size. There are ten on the longest way, from the logits through two blocks, which add up as squares; an entry of the
/// sums is of two gradients, and the largest of some thousand may be three times the typical one.
double rounded_gradient_bound(const cpu::Context& context, const std::string& model) {
    if (cpu::rounding_variance<float>(context.isa()) == 0) return kBound;
    const engine::ModelConfig config = engine::read_config(test::model_folder(model));
    const auto most = static_cast<double>(std::max({config.hidden, config.intermediate, config.vocabulary}));
    return 3 * 2 * std::sqrt(10.0) * std::sqrt(most / 6) / 32700;
}

void check(const Statistics& made, const std::string& model, double input_bound, double gradient_bound) {
    const Statistics wanted(test::model_folder(model) / "statistics.safetensors");
    REQUIRE(made.layers().size() == wanted.layers().size());
    for (const auto& [module, layer] : wanted.layers()) {
        CAPTURE(module);
        REQUIRE(made.find(module) != nullptr);
        CHECK(made.find(module)->tokens == layer.tokens);
        CHECK(made.find(module)->gradient_tokens == layer.gradient_tokens);
        CHECK(made.input(module)->sum().size() == wanted.input(module)->sum().size());
        CHECK(difference(*made.input(module), *wanted.input(module)) < input_bound);
        CHECK(difference(*made.gradient(module), *wanted.gradient(module)) < gradient_bound);
    }
}

}  // namespace

TEST_CASE("statistics are those of collect_statistics.py and torch.autograd") {
    const std::string name = GENERATE(from_range(test::kModels));
    CAPTURE(name);
    const TemporaryFile file;
    for (auto isa = cpu::Isa::portable; isa <= cpu::detect_isa(); isa = cpu::Isa(static_cast<int>(isa) + 1)) {
        CAPTURE(cpu::isa_name(isa));
        const cpu::Context context({.threads = 2, .isa = isa});
        const engine::CalibrationResult result = calibrated(name, context, kSize, file.path());
        CHECK(result.finished);
        CHECK(result.layers == 14);
        CHECK(result.tokens == 37);
        CHECK(result.gradient_tokens == 32);
        const Statistics made(file.path());
        CHECK(made.texts() == std::vector<std::string>{"0123456789abcdef"});
        check(made, name, kBound, rounded_gradient_bound(context, name));
    }
}

TEST_CASE("with linear layers in bf16 the statistics move by the rounding of weights and inputs") {
    const std::string name = GENERATE(from_range(test::kModels));
    CAPTURE(name);
    // To the last input lead two blocks of four products, each of a weight and an input that are rounded by 2^-9 of
    // their entries; the gradients start from there and pass through weights in float. An entry of the sums is of two.
    constexpr double kBf16Bound = 2 * 2 * 4 * 2 * 0x1p-9;
    const TemporaryFile file;
    for (const cpu::Isa isa : {cpu::Isa::portable, cpu::detect_isa()}) {
        CAPTURE(cpu::isa_name(isa));
        const cpu::Context context({.threads = 2, .isa = isa});
        CHECK(calibrated(name, context, kSize, file.path(), engine::StorageType::bf16).finished);
        check(Statistics(file.path()), name, kBf16Bound, kBf16Bound);
    }
}

TEST_CASE("calibration is in bf16 where the model and the level are") {
    const auto best = cpu::Context();
    const bool fast = best.isa() >= cpu::Isa::avx512_bf16;
    for (const char* model : {"llama", "stablelm"}) {
        const std::filesystem::path folder = test::model_folder(model);
        const bool stored = engine::stored_type(ModelFolder(folder)) == engine::StorageType::bf16;
        CHECK((engine::calibration_type(best, folder) == engine::StorageType::bf16) == (fast && stored));
        const cpu::Context portable({.isa = cpu::Isa::portable});
        CHECK(engine::calibration_type(portable, folder) == engine::StorageType::f32);
    }
}

TEST_CASE("layers that read one input share its sums") {
    const TemporaryFile file;
    const cpu::Context context({.threads = 1});
    static_cast<void>(calibrated("llama", context, kSize, file.path()));
    const Statistics made(file.path());
    CHECK(made.find("model.layers.1.self_attn.v_proj")->input == "model.layers.1.self_attn.q_proj");
    CHECK(made.find("model.layers.1.mlp.up_proj")->input == "model.layers.1.mlp.gate_proj");
    static_cast<void>(calibrated("stablelm-parallel", context, kSize, file.path()));
    CHECK(Statistics(file.path()).find("model.layers.1.mlp.up_proj")->input == "model.layers.1.self_attn.q_proj");
}

TEST_CASE("statistics do not depend on the number of threads, and need no gradients") {
    const TemporaryFile one;
    const cpu::Context serial({.threads = 1});
    const cpu::Context parallel({.threads = 3});
    static_cast<void>(calibrated("llama-biased", serial, kSize, one.path()));
    const std::string module = "model.layers.0.self_attn.k_proj";
    const Moments first = *Statistics(one.path()).gradient(module);
    static_cast<void>(calibrated("llama-biased", parallel, kSize, one.path()));
    const Moments second = *Statistics(one.path()).gradient(module);
    const auto same = [](const Moments& a, const Moments& b) {
        return std::equal(a.gram().data(), a.gram().data() + a.width() * a.width(), b.gram().data());
    };
    CHECK(same(first, second));
    const auto result =
        calibrated("llama-biased", serial, {.tokens = 37, .gradient_tokens = 0, .window = 16}, one.path());
    CHECK(result.gradient_tokens == 0);
    CHECK(!Statistics(one.path()).gradient(module));
    CHECK(Statistics(one.path()).input(module));
}

TEST_CASE("a calibration that is stopped leaves nothing, and tokens outside the vocabulary are refused") {
    const TemporaryFile file;
    const cpu::Context context({.threads = 1});
    const engine::ModelConfig config = engine::read_config(test::model_folder("llama"));
    engine::CalibrationText text{test::expected("llama").ids, ""};
    for (const char* step : {"forward", "backward"}) {
        double last = 0;
        const auto result =
            engine::calibrate(context, test::model_folder("llama"), config, text, kSize, engine::StorageType::f32,
                              file.path(), [&](const engine::CalibrationProgress& at) {
                                  CHECK(at.share > last);
                                  CHECK(at.share <= 1);
                                  last = at.share;
                                  return std::string(at.step) != step;
                              });
        CHECK(!result.finished);
        CHECK(!std::filesystem::exists(file.path()));
    }
    text.tokens[5] = 40;
    CHECK_THROWS_WITH(
        engine::calibrate(context, test::model_folder("llama"), config, text, kSize, engine::StorageType::f32,
                          file.path(), [](const engine::CalibrationProgress&) { return true; }),
        Catch::Contains("token 40 is outside the vocabulary of 40"));
    CHECK(!std::filesystem::exists(file.path()));
}
