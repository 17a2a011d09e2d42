// compress() on a small checkpoint in the real format, against NumPy's singular values (scripts/make-fixtures).
// SPDX-License-Identifier: MIT
#include <lowrank/checkpoint.hpp>
#include <lowrank/cpu.hpp>

#include "../fixtures.hpp"
#include "support.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

namespace fs = std::filesystem;
using namespace lowrank;
using namespace lowrank_test;
using test::kFixtures;
using Json = nlohmann::json;

namespace {

Json json_of(const fs::path& path) {
    return Json::parse(read_file(path));
}

/// A copy of the fixture that a test may change.
void copy_fixture(const fs::path& to) {
    fs::copy(kFixtures / "tiny", to, fs::copy_options::recursive);
}

/// All files below a folder and their contents.
std::map<std::string, std::string> contents_of(const fs::path& folder) {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (entry.is_regular_file()) found[entry.path().lexically_relative(folder)] = read_file(entry.path());
    }
    return found;
}

CompressReport compress_folder(const fs::path& in, const fs::path& to, const RankConfig& config,
                               const CompressOptions& options = {}, bool force = false) {
    const cpu::Context cpu({.threads = 1});
    const ModelFolder model(in);
    const CompressPlan plan = plan_compression(model, config);
    OutputFolder out(to, {.replace = force, .source = in});
    return compress(cpu, model, plan, out, options);
}

CompressReport compress_folder(const fs::path& in, const fs::path& to, const std::string& ranks) {
    return compress_folder(in, to, RankConfig::parse(ranks));
}

/// Half the distance of neighbouring numbers at 1: rounding to nearest errs by at most this part of a normal number.
double unit_roundoff(const std::string& dtype) {
    if (dtype == "BF16") return std::ldexp(1.0, -8);
    if (dtype == "F16") return std::ldexp(1.0, -11);
    return std::ldexp(1.0, -24);
}

double frobenius(const Matrix<double>& a) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.rows() * a.cols(); ++i) sum += a.data()[i] * a.data()[i];
    return std::sqrt(sum);
}

/// ||a - w1 w2||_F
double distance(const Matrix<double>& a, const Matrix<double>& w1, const Matrix<double>& w2) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) {
            double difference = a.view()(i, j);
            for (std::int64_t k = 0; k < w1.cols(); ++k) difference -= w1.view()(i, k) * w2.view()(k, j);
            sum += difference * difference;
        }
    }
    return std::sqrt(sum);
}

void check_factors(const ModelFolder& before, const ModelFolder& after, const std::string& module,
                   const Json& expected) {
    INFO(module);
    const StoredTensor weight = before.at(module + ".weight");
    const StoredTensor first = after.at(module + ".w1");
    const StoredTensor second = after.at(module + ".w2");
    CHECK_FALSE(after.find(module + ".weight"));
    CHECK(first.shard->path().filename() == weight.shard->path().filename());
    CHECK(first.info->dtype == weight.info->dtype);
    CHECK(second.info->dtype == weight.info->dtype);
    const auto rank = expected.at("rank").get<std::uint64_t>();
    REQUIRE(first.info->shape == std::vector<std::uint64_t>{weight.info->shape[0], rank});
    REQUIRE(second.info->shape == std::vector<std::uint64_t>{rank, weight.info->shape[1]});

    const auto a = weight.matrix<double>();
    const auto w1 = first.matrix<double>();
    const auto w2 = second.matrix<double>();
    const double error = distance(a, w1, w2) / frobenius(a);
    const double best = expected.at("relative_error");
    // Rounding moves each entry of a factor by at most u of it, so the product by at most
    // (2u + u^2) || |w1| |w2| ||_F <= (2u + u^2) ||w1||_F ||w2||_F, where the unrounded norms are at most the stored
    // ones divided by 1 - u.
    const double u = unit_roundoff(weight.info->dtype);
    const double rounding = (2 * u + u * u) / ((1 - u) * (1 - u)) * frobenius(w1) * frobenius(w2) / frobenius(a);
    CHECK(error <= best * (1 + 1e-4) + rounding);
    CHECK(error >= best * (1 - 1e-9));  // nothing of this rank is nearer (Eckart-Young); best is given to 12 digits
}

}  // namespace

TEST_CASE("a checkpoint is compressed as NumPy would", "[checkpoint][compress]") {
    const Json expected = json_of(kFixtures / "tiny-expected.json");
    const TemporaryFolder folder;
    const CompressReport report =
        compress_folder(kFixtures / "tiny", folder / "out", expected.at("ranks").get<std::string>());
    const ModelFolder before(kFixtures / "tiny");
    const ModelFolder after(folder / "out");

    SECTION("counts") {
        CHECK(report.before.parameters == expected.at("parameters").at("before"));
        CHECK(report.after.parameters == expected.at("parameters").at("after"));
        CHECK(report.before.bytes == expected.at("bytes").at("before"));
        CHECK(report.after.bytes == expected.at("bytes").at("after"));
        std::uint64_t stored = 0;
        for (const auto& [name, tensor] : after.tensors()) stored += tensor.info->elements();
        CHECK(stored == report.after.parameters);
        CHECK(report.exact);
        CHECK(report.warnings.empty());
        CHECK(report.output == fs::canonical(folder / "out"));
    }
    SECTION("factors") {
        REQUIRE(report.layers.size() == expected.at("layers").size());
        for (const CompressedLayer& layer : report.layers) {
            const Json& wanted = expected.at("layers").at(layer.module);
            INFO(layer.module);
            CHECK_FALSE(layer.dense());
            CHECK(layer.dtype == wanted.at("type"));
            CHECK(layer.parameters_before() == wanted.at("before"));
            CHECK(layer.parameters_after() == wanted.at("after"));
            const double error = wanted.at("relative_error");
            CHECK(std::abs(layer.relative_error.value() - error) <= 1e-4 * error);
            check_factors(before, after, layer.module, wanted);
        }
    }
    SECTION("everything else is the same bit for bit") {
        std::size_t kept = 0;
        for (const auto& [name, tensor] : before.tensors()) {
            const std::string module(name.substr(0, name.rfind('.')));
            if (name.ends_with(".weight") && expected.at("layers").contains(module)) continue;
            INFO(name);
            const StoredTensor copy = after.at(name);
            CHECK(copy.info->dtype == tensor.info->dtype);
            CHECK(copy.info->shape == tensor.info->shape);
            CHECK(text_of(copy.bytes()) == text_of(tensor.bytes()));
            CHECK(copy.shard->path().filename() == tensor.shard->path().filename());
            ++kept;
        }
        CHECK(after.tensor_count() == kept + 2 * report.layers.size());
        auto files = contents_of(kFixtures / "tiny");
        auto copies = contents_of(folder / "out");
        for (auto* some : {&files, &copies}) {
            std::erase_if(*some, [](const auto& file) { return file.first.starts_with("model"); });
        }
        CHECK(files.size() == 2);
        CHECK(copies == files);
    }
    SECTION("the index") {
        const Json index = json_of(folder / "out" / ModelFolder::kIndexFile);
        CHECK(index.at("metadata").at("total_size") == expected.at("bytes").at("after"));
        CHECK(index.at("metadata").at("total_parameters") == expected.at("parameters").at("after"));
        CHECK(index.at("weight_map").size() == after.tensor_count());
    }
    SECTION("the metadata") {
        std::size_t noted = 0;
        for (const auto& shard : after.shards()) {
            CHECK(shard->metadata().at("format") == "pt");
            CHECK(shard->metadata().at("lowrank.version") == LOWRANK_VERSION_STRING);
            const Json layers = Json::parse(shard->metadata().at("lowrank.layers"));
            for (const auto& [module, note] : layers.items()) {
                INFO(module);
                const Json& wanted = expected.at("layers").at(module);
                CHECK(shard->find(module + ".w1") != nullptr);
                CHECK(note.at("rank") == wanted.at("rank"));
                CHECK(note.at("method") == "exact");
                const double error = wanted.at("relative_error");
                CHECK(std::abs(note.at("relative_error").get<double>() - error) <= 1e-4 * error);
                ++noted;
            }
        }
        CHECK(noted == report.layers.size());
    }
    SECTION("nothing else is left") {
        CHECK(folder.names() == std::set<std::string>{"out"});
    }
}

TEST_CASE("the same input gives the same bytes", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    compress_folder(kFixtures / "tiny", folder / "a", "q_proj=6");
    compress_folder(kFixtures / "tiny", folder / "b", "q_proj=6");
    CHECK(contents_of(folder / "a") == contents_of(folder / "b"));
}

TEST_CASE("the plan foretells the sizes", "[checkpoint][compress]") {
    const ModelFolder model(kFixtures / "tiny");
    const Json expected = json_of(kFixtures / "tiny-expected.json");
    const CompressPlan plan = plan_compression(model, RankConfig::parse(expected.at("ranks").get<std::string>()));
    CHECK(plan.exact);
    CHECK(plan.before == ModelSize{expected.at("parameters").at("before"), expected.at("bytes").at("before")});
    CHECK(plan.after == ModelSize{expected.at("parameters").at("after"), expected.at("bytes").at("after")});

    RankConfig rule;
    rule.add("q_proj", relative_error(0.3));
    const CompressPlan unknown = plan_compression(model, rule);
    CHECK_FALSE(unknown.exact);
    CHECK(unknown.after == unknown.before);
}

TEST_CASE("rules that need the singular values are kept", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    RankConfig config;
    config.add("o_proj", relative_error(0.3));
    config.add("k_proj", energy_kept(0.9));
    config.add("down_proj", relative_error(0.0));
    const CompressReport report = compress_folder(kFixtures / "tiny", folder / "out", config);
    REQUIRE(report.layers.size() == 6);
    const ModelFolder after(folder / "out");
    for (const CompressedLayer& layer : report.layers) {
        INFO(layer.module);
        if (layer.pattern == "down_proj") {  // full rank saves nothing
            CHECK(layer.dense());
            CHECK(after.find(layer.module + ".weight"));
            CHECK_FALSE(after.find(layer.module + ".w1"));
            CHECK(layer.reason().find("break-even") != std::string::npos);
            continue;
        }
        CHECK(layer.relative_error.value() <= (layer.pattern == "o_proj" ? 0.3 : std::sqrt(0.1)));
        CHECK(after.find(layer.module + ".w1"));
    }
}

TEST_CASE("a rank that saves nothing leaves the layer dense, with a warning", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    const CompressReport report = compress_folder(kFixtures / "tiny", folder / "out", "k_proj=10,q_proj=1000000");
    CHECK(report.after == report.before);
    REQUIRE(report.warnings.size() == 2);
    CHECK(mentions(report.warnings[0], {"q_proj", "1000000", "2 layers stay dense"}));
    CHECK(mentions(report.warnings[1], {"k_proj", "rank 10", "9.6", "2 layers stay dense"}));
    const ModelFolder before(kFixtures / "tiny");
    const ModelFolder after(folder / "out");
    for (const auto& [name, tensor] : before.tensors())
        CHECK(text_of(after.at(name).bytes()) == text_of(tensor.bytes()));
}

TEST_CASE("a compressed model can be compressed further", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    compress_folder(kFixtures / "tiny", folder / "a", "q_proj=6");
    compress_folder(folder / "a", folder / "b", "o_proj=7");
    const ModelFolder after(folder / "b");
    CHECK(after.find("model.layers.0.self_attn.q_proj.w1"));
    const Json notes = Json::parse(after.shards()[0]->metadata().at("lowrank.layers"));
    CHECK(notes.size() == 2);  // the earlier layer stays noted
    CHECK(mentions(message_of<ValueError>([&] { compress_folder(folder / "b", folder / "c", "q_proj=3"); }),
                   {"q_proj", "factorised already", "q_proj.w1"}));
}

TEST_CASE("a config that does not fit the model is refused before any work", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    const auto refusal = [&](const std::string& ranks) {
        return message_of<ValueError>([&] { compress_folder(kFixtures / "tiny", folder / "out", ranks); });
    };
    CHECK(mentions(refusal("q_prj=4"), {"'q_prj'", "q_proj"}));
    CHECK(mentions(refusal("norm=4"), {"model.norm.weight", "[24]", "'F32'", "2 dimensions"}));
    CHECK(mentions(refusal("layers.*.self_attn.q_proj=4,layers.0.*.q_proj=5"), {"both match", "layers.0"}));
    CHECK(folder.names().empty());
}

TEST_CASE("what is in the folder besides the model", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    copy_fixture(folder / "in");
    for (const char* sub : {".git", ".cache"}) {
        fs::create_directory(folder / "in" / sub);
        write_file(folder / "in" / sub / "x", "x");
    }
    write_file(folder / "in/run.sh", "#!/bin/sh\n");
    fs::permissions(folder / "in/run.sh", fs::perms::owner_all);
    write_file(folder / "elsewhere", "contents");
    fs::create_symlink(folder / "elsewhere", folder / "in/link");

    SECTION("files are copied, links followed, caches left out") {
        compress_folder(folder / "in", folder / "out", "q_proj=6");
        CHECK_FALSE(fs::exists(folder / "out/.git"));
        CHECK_FALSE(fs::exists(folder / "out/.cache"));
        CHECK(fs::status(folder / "out/run.sh").permissions() == fs::perms::owner_all);
        CHECK_FALSE(fs::is_symlink(folder / "out/link"));
        CHECK(read_file(folder / "out/link") == "contents");
    }
    SECTION("weights that the index does not list") {
        write_vectors(folder / "in/adapter.safetensors", {{"a", {1, 2}}});
        const CompressReport report = compress_folder(folder / "in", folder / "out", "q_proj=6");
        REQUIRE(report.warnings.size() == 1);
        CHECK(mentions(report.warnings[0], {"adapter.safetensors", "not part of the model"}));
        CHECK(read_file(folder / "out/adapter.safetensors") == read_file(folder / "in/adapter.safetensors"));
    }
    SECTION("a link that leads nowhere") {
        fs::create_symlink(folder / "gone", folder / "in/broken");
        CHECK(mentions(message_of<IoError>([&] { compress_folder(folder / "in", folder / "out", "q_proj=6"); }),
                       {"broken'"}));
        CHECK(folder.names() == std::set<std::string>{"elsewhere", "in"});
    }
    SECTION("a link that leads in a circle") {
        fs::create_directory_symlink(folder / "in", folder / "in/again");
        CHECK(mentions(message_of<IoError>([&] { compress_folder(folder / "in", folder / "out", "q_proj=6"); }),
                       {"again'", "leads back"}));
        CHECK(folder.names() == std::set<std::string>{"elsewhere", "in"});
    }
}

TEST_CASE("a model of a single file", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    fs::create_directory(folder / "in");
    fs::copy_file(kFixtures / "tiny/model-00001-of-00002.safetensors", folder / "in/model.safetensors");
    const CompressReport report = compress_folder(folder / "in", folder / "out", "q_proj=6");
    CHECK(report.layers.size() == 1);
    CHECK(contents_of(folder / "out").size() == 1);
    CHECK(ModelFolder(folder / "out").find("model.layers.0.self_attn.q_proj.w2"));
}

TEST_CASE("targets", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    copy_fixture(folder / "in");
    const auto original = contents_of(folder / "in");
    const auto run = [&](const fs::path& to, bool force) {
        return compress_folder(folder / "in", to, RankConfig::parse("q_proj=6"), {}, force);
    };
    const auto refusal = [&](const fs::path& to, bool force) {
        return message_of<ValueError>([&] { run(to, force); });
    };
    SECTION("one that exists is refused without force, and kept") {
        fs::create_directory(folder / "out");
        write_file(folder / "out/model.safetensors", "old");
        CHECK(mentions(refusal(folder / "out", false), {"out'", "exists already", "--force"}));
        CHECK(read_file(folder / "out/model.safetensors") == "old");
    }
    SECTION("one that is a checkpoint or empty is replaced by force, whole") {
        fs::create_directory(folder / "out");
        run(folder / "out", true);
        write_file(folder / "out/old", "old");
        run(folder / "out", true);
        CHECK_FALSE(fs::exists(folder / "out/old"));
        CHECK(fs::exists(folder / "out/config.json"));
    }
    SECTION("one that is anything else is never replaced") {
        fs::create_directory(folder / "home");
        write_file(folder / "home/thesis.txt", "years");
        CHECK(mentions(refusal(folder / "home", true), {"home'", "no checkpoint"}));
        write_file(folder / "file", "x");
        CHECK(mentions(refusal(folder / "file", true), {"file'", "not a folder"}));
        CHECK(folder.names() == std::set<std::string>{"file", "home", "in"});
        CHECK(read_file(folder / "home/thesis.txt") == "years");
        return;
    }
    SECTION("the source, under whatever name") {
        CHECK(mentions(refusal(folder / "in", true), {"both the source and the target"}));
        CHECK(mentions(refusal(folder / "in/../in/", true), {"both the source and the target"}));
        fs::create_directory_symlink(folder / "in", folder / "alias");
        CHECK(mentions(refusal(folder / "alias", true), {"both the source and the target"}));
    }
    SECTION("inside the source, or around it") {
        CHECK(mentions(refusal(folder / "in/out", false), {"lies inside the source"}));
        CHECK(mentions(refusal(folder.path(), true), {"contains the source"}));
    }
    SECTION("in a folder that does not exist") {
        CHECK(mentions(message_of<IoError>([&] { run(folder / "none/out", false); }), {"none/out'", "No such file"}));
    }
    CHECK(contents_of(folder / "in") == original);
    for (const std::string& name : folder.names()) CHECK_FALSE(name.starts_with(".lowrank"));
}

namespace {

/// Makes the first element of a tensor of F32 another value.
void poison(const fs::path& shard, const std::string& name, float value) {
    std::uint64_t at = 0;
    {
        const SafetensorsReader file(shard);
        const auto bytes = file.bytes(file.tensor(name));
        at = static_cast<std::uint64_t>(bytes.data() - file.bytes(file.tensors().front()).data()) + file.file_bytes() -
             file.tensors().back().end;
    }
    std::fstream stream(shard, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.write(reinterpret_cast<const char*>(&value), sizeof(value));
    REQUIRE(stream.good());
}

}  // namespace

TEST_CASE("a failure leaves the target as it was, and nothing else", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    copy_fixture(folder / "in");
    const fs::path shard = folder / "in/model-00002-of-00002.safetensors";
    const std::string name = "model.layers.1.mlp.down_proj.weight";
    const float value = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
    poison(shard, name, value);

    SECTION("where there was none") {
        CHECK(mentions(message_of<ValueError>([&] { compress_folder(folder / "in", folder / "out", "down_proj=5"); }),
                       {name}));
        CHECK(folder.names() == std::set<std::string>{"in"});
    }
    SECTION("where there was an old one") {
        copy_fixture(folder / "out");
        CHECK(mentions(message_of<ValueError>([&] {
                           compress_folder(folder / "in", folder / "out", RankConfig::parse("down_proj=5"), {}, true);
                       }),
                       {name}));
        CHECK(folder.names() == std::set<std::string>{"in", "out"});
        CHECK(contents_of(folder / "out") == contents_of(kFixtures / "tiny"));
    }
    SECTION("but a layer that is not selected may hold it") {
        compress_folder(folder / "in", folder / "out", "q_proj=6");
        const ModelFolder before(folder / "in");
        const ModelFolder after(folder / "out");
        CHECK(text_of(after.at(name).bytes()) == text_of(before.at(name).bytes()));
    }
}

TEST_CASE("factors that overflow the weight's type are refused by name", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    fs::create_directory(folder / "in");
    {
        // Its one singular value is 64 * 60000, and one factor carries it whole: each of the 64 entries is an eighth
        // of it, 480000, above f16's largest number, 65504.
        const std::vector<f16> values(64 * 64, static_cast<f16>(60000.0F));
        SafetensorsWriter file(folder / "in/model.safetensors", 4096);
        file.begin("a.weight", "F16", {64, 64});
        file.write(bytes_of(values));
        file.commit();
    }
    CHECK(mentions(message_of<ValueError>([&] { compress_folder(folder / "in", folder / "out", "a=1"); }),
                   {"model.safetensors'", "tensor 'a.weight'", "overflow F16", "wider type"}));
    CHECK(folder.names() == std::set<std::string>{"in"});
}

TEST_CASE("progress counts every layer once", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    std::vector<std::string> seen;
    std::int64_t last = 0;
    CompressOptions options;
    options.progress = [&](const CompressProgress& progress) {
        CHECK(progress.layers == 4);
        CHECK(progress.done >= last);
        last = progress.done;
        if (progress.layer != nullptr) seen.push_back(progress.layer->module);
    };
    compress_folder(kFixtures / "tiny", folder / "out", RankConfig::parse("q_proj=6,o_proj=7"), options);
    CHECK(last == 4);
    CHECK(seen == std::vector<std::string>{"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj",
                                           "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj"});
}

TEST_CASE("an exception from the progress callback ends the run cleanly", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    CompressOptions options;
    options.progress = [](const CompressProgress&) { throw std::runtime_error("stop"); };
    CHECK_THROWS_AS(compress_folder(kFixtures / "tiny", folder / "out", RankConfig::parse("q_proj=6"), options),
                    std::runtime_error);
    CHECK(folder.names().empty());
}

TEST_CASE("abandoned from another thread, the run fails and nothing is left", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    const cpu::Context cpu({.threads = 1});
    const ModelFolder model(kFixtures / "tiny");
    const CompressPlan plan = plan_compression(model, RankConfig::parse("q_proj=6"));
    OutputFolder out(folder / "out");
    CompressOptions options;
    options.progress = [&](const CompressProgress&) { std::thread([&] { out.abandon(); }).join(); };
    CHECK_THROWS_AS(compress(cpu, model, plan, out, options), IoError);
    CHECK(folder.names().empty());
}

TEST_CASE("the report as JSON", "[checkpoint][compress]") {
    const TemporaryFolder folder;
    const CompressReport report = compress_folder(kFixtures / "tiny", folder / "out", "q_proj=6,k_proj=10");
    write_report(report, folder / "report.json");
    const Json json = json_of(folder / "report.json");
    CHECK(json.at("version") == LOWRANK_VERSION_STRING);
    CHECK(json.at("parameters").at("before") == report.before.parameters);
    CHECK(json.at("parameters").at("after") == report.after.parameters);
    CHECK(json.at("bytes").at("after") == report.after.bytes);
    CHECK(json.at("peak_resident_bytes").get<std::uint64_t>() > 0);
    REQUIRE(json.at("layers").size() == 4);
    CHECK(json.at("layers")[0].at("rank") == 6);
    CHECK(json.at("layers")[0].at("d_in") == 24);
    CHECK(json.at("layers")[0].at("d_out") == 32);
    CHECK(json.at("layers")[0].at("dense") == false);
    CHECK(json.at("layers")[1].at("dense") == true);
    CHECK(json.at("layers")[1].at("relative_error").is_null());
    CHECK(json.at("warnings").size() == 1);
    CHECK(report_table(report).find("q_proj") != std::string::npos);
}
