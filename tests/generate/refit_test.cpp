// The refit of a compressed model's factors, on the small models of the fixtures.
#include "refit.hpp"
#include "calibrate.hpp"
#include "config.hpp"
#include "language_model.hpp"

#include <lowrank/checkpoint/calibrated_compress.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>

#include "catch.hpp"
#include "checkpoint/support.hpp"
#include "generate/support.hpp"

#include <cstdint>
#include <filesystem>
#include <string>

using namespace lowrank;

namespace {

constexpr engine::CalibrationSize kRefitSize = {.tokens = 37, .gradient_tokens = 37, .window = 37};

/// Of the logits for the fixture's tokens, against the dense model's.
double squared_error(const std::filesystem::path& folder, const test::Expected& dense, const cpu::Context& context) {
    const auto model = engine::load_model(folder, engine::StorageType::f32);
    const auto count = static_cast<std::int64_t>(dense.ids.size());
    const auto session = model->start(context, {.capacity = count, .rows = count});
    session->feed(dense.ids);
    const auto logits = session->logits(0, count);
    double sum = 0;
    for (std::int64_t i = 0; i < logits.rows(); ++i) {
        for (std::int64_t j = 0; j < logits.cols(); ++j) {
            const double difference = static_cast<double>(logits(i, j)) - static_cast<double>(dense.logits(i, j));
            sum += difference * difference;
        }
    }
    return sum;
}

}  // namespace

TEST_CASE("a refit brings a compressed model nearer to the dense one, within the same budget") {
    const std::string name = GENERATE("llama", "llama-biased", "stablelm");
    const double share = GENERATE(0.7, 0.9);
    const auto type = GENERATE(engine::StorageType::f32, engine::StorageType::bf16);
    CAPTURE(name, share, storage_name(type));
    const lowrank_test::TemporaryFolder work;
    const cpu::Context context({.threads = 2});
    const std::filesystem::path folder = test::model_folder(name);
    const engine::ModelConfig config = engine::read_config(folder);
    const test::Expected dense = test::expected(name);
    const engine::CalibrationText text{dense.ids, ""};
    static_cast<void>(engine::calibrate(context, folder, config, text, kRefitSize, type, work.path() / "statistics",
                                        [](const engine::CalibrationProgress&) { return true; }));
    const ModelFolder model(folder);
    const Statistics statistics(work.path() / "statistics");
    const CalibratedModel calibrated(model, statistics);
    const FactorStore alone = calibrated.factorise(context, work.path());
    const std::int64_t budget = calibrated.budget(share);
    const CompressPlan plan = calibrated.split(alone, budget);
    // With the larger budget some inputs are read by dense layers alone, and nothing is fitted there.
    const auto stays_dense = [&](const PlannedLayer& layer) {
        return layer.module.ends_with("down_proj") && layer.choice->dense;
    };
    CHECK((share < 0.8 || std::any_of(plan.layers.begin(), plan.layers.end(), stays_dense)));
    std::int64_t blocks = 0;
    REQUIRE(engine::can_refit(config));
    const FactorStore fitted =
        engine::refit(context, {folder, config, dense.ids, kRefitSize.window, type, plan, statistics, alone},
                      work.path(), [&](const engine::CalibrationProgress& at) { CHECK(at.block == ++blocks); });
    CHECK(blocks == config.layers);

    OutputFolder out(work.path() / "alone");
    OutputFolder out_fitted(work.path() / "fitted");
    const CompressReport before = calibrated.compress(context, alone, budget, out);
    const CompressReport after = calibrated.compress(context, fitted, budget, out_fitted);
    CHECK(after.after.parameters == before.after.parameters);
    const double error = squared_error(work.path() / "alone", dense, context);
    CHECK(error > 0);
    CHECK(squared_error(work.path() / "fitted", dense, context) < (share < 0.8 ? 0.9 : 1.0) * error);
}

TEST_CASE("models with a parallel residual are not refitted") {
    CHECK(!engine::can_refit(engine::read_config(test::model_folder("stablelm-parallel"))));
}
