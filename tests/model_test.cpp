#include <lowrank/model.hpp>

#include "catch.hpp"
#include "matrices.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace lowrank;

namespace {

struct Model {
    std::vector<Matrix<float>> weights;
    std::vector<NamedWeight<float>> named;

    Model() {
        for (unsigned layer = 0; layer < 3; ++layer) {
            for (const char* name : {"q_proj", "k_proj", "up_proj"}) {
                const std::int64_t d_out = name[0] == 'u' ? 40 : 24;
                const auto s = test::spectrum(test::Spectrum::geometric, 24, 100);
                weights.push_back(test::rounded<float>(test::with_spectrum(d_out, 24, s, layer)));
                named.push_back({"layers." + std::to_string(layer) + ".x." + name, {}, WeightLayout::out_in});
            }
        }
        for (std::size_t i = 0; i < named.size(); ++i) named[i].weight = weights[i].view();
    }
};

}  // namespace

TEST_CASE("Selected layers are handed over in order, with progress and a report", "[model]") {
    const Model model;
    const cpu::Context cpu;
    std::vector<std::string> taken;
    std::vector<std::int64_t> done;
    const auto reports =
        lowrank_model(cpu, RankConfig::parse("q_proj=5,up_proj=6,layers.1.x.q_proj=20"), std::span(model.named),
                      [&](const NamedWeight<float>& layer, Factors<float>&& factors) {
                          taken.push_back(layer.name);
                          CHECK(factors.d_in() == 24);
                          CHECK(factors.rank() == (layer.name.ends_with("q_proj") ? 5 : 6));
                      },
                      {.progress = [&](const LayerProgress& progress) {
                          done.push_back(progress.done);
                          CHECK(progress.layers == 6);
                          CHECK(progress.seconds >= 0);
                      }});
    CHECK(taken == std::vector<std::string>{"layers.0.x.q_proj", "layers.0.x.up_proj", "layers.1.x.up_proj",
                                            "layers.2.x.q_proj", "layers.2.x.up_proj"});
    CHECK(done == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});
    REQUIRE(reports.size() == 6);
    CHECK(reports[2].name == "layers.1.x.q_proj");
    CHECK(reports[2].dense);  // 20 is above the break-even rank of 12
    CHECK(reports[2].parameters_after() == 24 * 24);
    CHECK(reports[0].parameters_after() == 5 * 48);
    CHECK(reports[0].relative_error > 0);
}

TEST_CASE("A name that matches nothing and a layer that is not finite are named", "[model]") {
    Model model;
    const cpu::Context cpu;
    const auto ignore = [](const NamedWeight<float>&, Factors<float>&&) {};
    CHECK_THROWS_WITH(lowrank_model(cpu, RankConfig::parse("v_proj=5"), std::span(std::as_const(model).named), ignore),
                      Catch::Contains("no layer matches 'v_proj'"));
    model.weights[3](1, 1) = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH(lowrank_model(cpu, RankConfig::parse("q_proj=5"), std::span(std::as_const(model).named), ignore),
                      Catch::Contains("layers.1.x.q_proj"));
}
