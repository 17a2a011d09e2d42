// Compressing a checkpoint by its statistics, against the weighted singular values that NumPy finds
// (scripts/make-fixtures).
// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint/calibrated_compress.hpp>
#include <lowrank/checkpoint/report_plot.hpp>
#include <lowrank/checkpoint/report_table.hpp>
#include <lowrank/checkpoint/weighted_compress.hpp>

#include "../fixtures.hpp"
#include "support.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace fs = std::filesystem;
using namespace lowrank;
using namespace lowrank_test;
using test::kFixtures;
using Json = nlohmann::json;

namespace {

constexpr std::int64_t kSelected = 8448;  // parameters of the layers that the statistics know

const cpu::Context kOneThread({.threads = 1});

CompressReport compress_share(const fs::path& out, double share, const CalibratedOptions& options = {},
                              const std::vector<std::string>& names = {}) {
    const ModelFolder model(kFixtures / "tiny");
    const Statistics statistics(kFixtures / "tiny-statistics.safetensors");
    const CalibratedModel calibrated(model, statistics, names, options);
    OutputFolder folder(out, {.source = model.folder()});
    const FactorStore store = calibrated.factorise(kOneThread, folder.folder());
    return calibrated.compress(kOneThread, store, calibrated.budget(share), folder);
}

double tail(const std::vector<double>& s, std::int64_t rank) {
    double sum = 0;
    for (std::size_t i = s.size(); i-- > static_cast<std::size_t>(rank);) sum += s[i] * s[i];
    return sum;
}

/// A statistics file with one layer's entry, of these widths.
void write_statistics(const fs::path& path, const std::string& module, std::int64_t d_in, std::int64_t d_out,
                      std::int64_t tokens = 50, double value = 1) {
    const std::vector<std::string> modules = {module};
    StatisticsWriter out(path, modules);
    const auto diagonal = [&](std::int64_t width) {
        Matrix<double> gram(width, width);
        for (std::int64_t i = 0; i < width; ++i) gram(i, i) = value;
        return Moments(std::move(gram), {}, tokens, "test");
    };
    out.write_input(module, modules, diagonal(d_in));
    if (d_out > 0) out.write_gradient(module, diagonal(d_out));
    out.commit({});
}

/// The message of planning, for these statistics.
template <class E>
std::string refused(const fs::path& statistics_path, const std::vector<std::string>& names = {}) {
    const ModelFolder model(kFixtures / "tiny");
    const Statistics statistics(statistics_path);
    return message_of<E>([&] { CalibratedModel(model, statistics, names); });
}

}  // namespace

TEST_CASE("a calibrated checkpoint has the errors that NumPy finds", "[checkpoint][calibrated]") {
    const Json spectra = Json::parse(read_file(kFixtures / "tiny-weighted.json"));
    const TemporaryFolder folder;
    for (const double share : {0.4, 0.7, 0.9}) {
        CAPTURE(share);
        const fs::path out = folder / ("out" + std::to_string(share));
        const CompressReport report = compress_share(out, share);
        REQUIRE(report.calibration);
        CHECK(report.calibration->selected == kSelected);
        CHECK(report.calibration->budget == static_cast<std::int64_t>(share * kSelected));
        CHECK(report.calibration->tokens == 200);
        CHECK(report.calibration->gradient_tokens == 100);
        CHECK(report.calibration->texts == std::vector<std::string>{"85944171f73967e8"});
        REQUIRE(report.layers.size() == 10);
        const ModelFolder before(kFixtures / "tiny");
        const ModelFolder after(out);
        double loss = 0;
        std::int64_t kept = 0;
        for (const CompressedLayer& layer : report.layers) {
            CAPTURE(layer.module);
            kept += layer.parameters_after();
            REQUIRE(layer.choice);
            if (layer.choice->dense) {
                CHECK(after.find(layer.module + ".weight"));
                CHECK(layer.relative_error == 0.0);
                continue;
            }
            const auto s = spectra.at(layer.module).get<std::vector<double>>();
            const std::int64_t rank = layer.choice->rank;
            loss += tail(s, rank) / 2;
            // NumPy starts from the same F32 sums and stored weights; float rounding is 1e-7 of the norm.
            CHECK(*layer.weighted_error == Approx(std::sqrt(tail(s, rank) / tail(s, 0))).margin(1e-5));
            const auto w = before.at(layer.module + ".weight").matrix<double>();
            const auto w1 = after.at(layer.module + ".w1").matrix<double>();
            const auto w2 = after.at(layer.module + ".w2").matrix<double>();
            REQUIRE(w1.cols() == rank);
            REQUIRE(w2.rows() == rank);
            double rest = 0;
            double norm = 0;
            for (std::int64_t i = 0; i < w.rows(); ++i) {
                for (std::int64_t j = 0; j < w.cols(); ++j) {
                    double sum = 0;
                    for (std::int64_t k = 0; k < rank; ++k) sum += w1(i, k) * w2(k, j);
                    rest += (w(i, j) - sum) * (w(i, j) - sum);
                    norm += w(i, j) * w(i, j);
                }
            }
            CHECK(*layer.relative_error == Approx(std::sqrt(rest / norm)).margin(1e-5));
        }
        CHECK(kept <= report.calibration->budget);
        CHECK(report.calibration->loss == Approx(loss).epsilon(1e-3));
        CHECK(report.calibration->gap >= 0);
        CHECK(report.calibration->gap < 0.2);  // 10 layers with few and large steps
        CHECK(static_cast<std::int64_t>(report.before.parameters - report.after.parameters) == kSelected - kept);
        CHECK(after.at("model.norm.weight").info->elements() == 24);
    }
}

TEST_CASE("several budgets come from one pass, and are as if they came alone", "[checkpoint][calibrated]") {
    const TemporaryFolder folder;
    const ModelFolder model(kFixtures / "tiny");
    const Statistics statistics(kFixtures / "tiny-statistics.safetensors");
    const CalibratedModel calibrated(model, statistics);
    const FactorStore store = calibrated.factorise(kOneThread, folder.path());
    CHECK(folder.names().empty());  // the store has no name
    double last = 0;
    for (const double share : {0.9, 0.5}) {
        const std::string name = "out" + std::to_string(share);
        OutputFolder out(folder / name, {.source = model.folder()});
        const CompressReport report = calibrated.compress(kOneThread, store, calibrated.budget(share), out);
        CHECK(report.calibration->loss > last);
        last = report.calibration->loss;
        compress_share(folder / "alone", share);
        for (const char* file : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
            CHECK(read_file(folder / name / file) == read_file(folder / "alone" / file));
        }
        fs::remove_all(folder / "alone");
    }
}

TEST_CASE("a budget for the whole model, for named layers, and for one side", "[checkpoint][calibrated]") {
    const TemporaryFolder folder;
    const ModelFolder model(kFixtures / "tiny");
    const Statistics statistics(kFixtures / "tiny-statistics.safetensors");
    const CalibratedModel all(model, statistics);
    CHECK(all.selected() == kSelected);
    const auto total = static_cast<std::int64_t>(all.plan().before.parameters);
    CHECK(all.budget_of_model(total - 1000) == kSelected - 1000);
    const CompressReport named = compress_share(folder / "named", 0.5, {}, {"gate_proj", "down_proj"});
    CHECK(named.layers.size() == 4);
    CHECK(named.calibration->selected == 4608);
    const CompressReport one_sided = compress_share(folder / "one", 0.5, {.gradients = false});
    CHECK(one_sided.calibration->gradient_tokens == 0);
    const CompressReport split = compress_share(folder / "split", 0.5);
    const CompressReport uniform = compress_share(folder / "uniform", 0.5, {.uniform = true});
    CHECK(uniform.calibration->loss > split.calibration->loss);
    CHECK(uniform.calibration->gap > split.calibration->gap);
    for (const CompressedLayer& layer : uniform.layers) {
        CHECK(layer.choice == choose_rank(parameter_share(0.5), layer.d_in, layer.d_out));
    }
    const CompressReport aligned = compress_share(folder / "aligned", 0.6, {.ranks = {.multiple = 4}});
    for (const CompressedLayer& layer : aligned.layers) CHECK((layer.dense() || layer.choice->rank % 4 == 0));
}

TEST_CASE("given ranks are kept, in the weighted norm", "[checkpoint][calibrated]") {
    const Json spectra = Json::parse(read_file(kFixtures / "tiny-weighted.json"));
    const TemporaryFolder folder;
    const ModelFolder model(kFixtures / "tiny");
    const Statistics statistics(kFixtures / "tiny-statistics.safetensors");
    const CompressPlan plan = plan_compression(model, RankConfig::parse("q_proj=6,k_proj=1,down_proj=5"));
    OutputFolder out(folder / "out", {.source = model.folder()});
    const CompressReport report = compress(kOneThread, model, plan, statistics, out);
    CHECK_FALSE(report.calibration);
    REQUIRE(report.layers.size() == 6);
    for (const CompressedLayer& layer : report.layers) {
        CAPTURE(layer.module);
        const auto s = spectra.at(layer.module).get<std::vector<double>>();
        CHECK(layer.choice->rank == (layer.pattern == "q_proj" ? 6 : layer.pattern == "k_proj" ? 1 : 5));
        CHECK(*layer.weighted_error == Approx(std::sqrt(tail(s, layer.choice->rank) / tail(s, 0))).margin(1e-5));
    }
    CHECK(report_table(report).find("weighted error") != std::string::npos);
    const CompressPlan other = plan_compression(model, RankConfig::parse("embed_tokens=6"));
    OutputFolder refused_out(folder / "refused", {.source = model.folder()});
    CHECK(mentions(message_of<ValueError>([&] { compress(kOneThread, model, other, statistics, refused_out); }),
                   {"'model.embed_tokens' are missing"}));
}

TEST_CASE("statistics that do not fit the model are refused", "[checkpoint][calibrated]") {
    const TemporaryFolder folder;
    const fs::path path = folder / "s.safetensors";
    const std::string q = "model.layers.0.self_attn.q_proj";  // 24 inputs, 32 outputs
    write_statistics(path, "model.layers.7.q_proj", 24, 32);
    CHECK(mentions(refused<ValueError>(path), {"s.safetensors", "another model", "tiny", "'model.layers.7.q_proj'"}));
    write_statistics(path, q, 25, 32);
    CHECK(mentions(refused<ShapeError>(path), {"s.safetensors", q, "25 inputs", "24 x 32"}));
    write_statistics(path, q, 24, 33);
    CHECK(mentions(refused<ShapeError>(path), {q, "33 outputs", "24 x 32"}));
    write_statistics(path, q, 24, 32);
    CHECK(mentions(refused<ValueError>(path, {"k_proj"}), {"model.layers.0.self_attn.k_proj' are missing"}));
    CHECK(mentions(refused<ValueError>(path, {"qq_proj"}), {"no layer matches 'qq_proj'"}));
    const std::vector<std::string> none;
    StatisticsWriter(path, none).commit({});
    CHECK(mentions(refused<ValueError>(path), {"s.safetensors", "knows of no layer"}));
}

TEST_CASE("budgets out of range are refused before the work", "[checkpoint][calibrated]") {
    const ModelFolder model(kFixtures / "tiny");
    const Statistics statistics(kFixtures / "tiny-statistics.safetensors");
    const CalibratedModel calibrated(model, statistics);
    for (const double share : {0.0, 1.0, -0.5, 2.0, std::numeric_limits<double>::quiet_NaN()}) {
        CHECK(mentions(message_of<ValueError>([&] { static_cast<void>(calibrated.budget(share)); }), {"(0, 1)"}));
    }
    CHECK(mentions(message_of<ValueError>([&] { static_cast<void>(calibrated.budget(0.01)); }),
                   {"budget of 84", "10 layers", "lowest ranks", "floor"}));
    const auto total = static_cast<std::int64_t>(calibrated.plan().before.parameters);
    CHECK(mentions(message_of<ValueError>([&] { static_cast<void>(calibrated.budget_of_model(total)); }),
                   {"not below the 8448"}));
    CHECK(mentions(message_of<ValueError>([&] { static_cast<void>(calibrated.budget_of_model(100)); }),
                   {"out of reach", "outside the selected layers"}));
}

TEST_CASE("few tokens are warned of", "[checkpoint][calibrated]") {
    const TemporaryFolder folder;
    const fs::path path = folder / "s.safetensors";
    write_statistics(path, "model.layers.0.self_attn.q_proj", 24, 32, 5);
    const ModelFolder model(kFixtures / "tiny");
    const Statistics statistics(path);
    const CalibratedModel calibrated(model, statistics);
    REQUIRE(calibrated.plan().warnings.size() == 1);
    CHECK(mentions(calibrated.plan().warnings.front(), {"1 layers", "5 tokens", "more text"}));
}

TEST_CASE("bad sums end the work with nothing left behind", "[checkpoint][calibrated]") {
    const TemporaryFolder folder;
    const fs::path path = folder / "s.safetensors";
    for (const double value : {std::numeric_limits<double>::infinity(), -1.0}) {
        const std::string module = "model.layers.0.self_attn.q_proj";
        {
            SafetensorsWriter file(path, 4096);
            file.begin(module + ".input_gram", "F64", {300});
            file.write(bytes_of(std::vector<double>(300, value)));
            file.commit({{"lowrank.statistics", "1"},
                         {"lowrank.layers", R"({")" + module + R"(": {"input": ")" + module +
                                                R"(", "tokens": 9, "gradient_tokens": 0}})"}});
        }
        const ModelFolder model(kFixtures / "tiny");
        const Statistics statistics(path);
        const CalibratedModel calibrated(model, statistics);
        const std::string message = message_of<ValueError>([&] {
            OutputFolder out(folder / "out", {.source = model.folder()});
            static_cast<void>(calibrated.factorise(kOneThread, out.folder()));
        });
        CHECK(mentions(message, {"s.safetensors", module, value < 0 ? "negative" : "not finite"}));
        CHECK(folder.names() == std::set<std::string>{"s.safetensors"});
    }
}

TEST_CASE("the calibrated report in all its forms", "[checkpoint][calibrated]") {
    const TemporaryFolder folder;
    const CompressReport report = compress_share(folder / "out", 0.6);
    const Json json = Json::parse(report_json(report).dump());
    CHECK(json.at("calibration").at("budget") == report.calibration->budget);
    CHECK(json.at("layers").at(0).contains("weighted_error"));
    const std::string table = report_table(report);
    CHECK(table.find("nats per token") != std::string::npos);
    CHECK(table.find("weighted error") != std::string::npos);
    const std::string svg = report_svg(report);
    CHECK(svg.find("q_proj") != std::string::npos);
    std::size_t marks = 0;
    for (std::size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) ++marks;
    CHECK(marks == 20);  // two panels of 10 layers
    CHECK(svg == report_svg(report));
}
