#include <lowrank/rank.hpp>

#include "catch.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace lowrank;

TEST_CASE("Break-even is where both forms hold the same numbers", "[rank]") {
    CHECK(break_even_rank(2560, 2560) == 1280);
    CHECK(break_even_rank(2560, 6912) == Approx(1868.108).epsilon(1e-6));
    CHECK(break_even_rank(0, 5) == 0);
    CHECK_FALSE(saves_parameters(2560, 2560, 1280));
    CHECK(saves_parameters(2560, 2560, 1279));
    CHECK(saves_parameters(2560, 6912, 1868));
    CHECK_FALSE(saves_parameters(2560, 6912, 1869));
}

TEST_CASE("The reference case by hand: 2,795,443,200 -> 2,090,800,128 parameters", "[rank]") {
    std::int64_t after = 2795443200;
    for (int layer = 0; layer < 32; ++layer) {
        after += 2 * (low_rank_parameters(2560, 2560, 384) - 2560 * 2560);
        after += low_rank_parameters(2560, 6912, 512) - 2560 * 6912;
    }
    CHECK(after == 2090800128);
}

TEST_CASE("Rules choose from the spectrum", "[rank]") {
    const std::vector<double> values{4, 3, 2, 1};  // squares 16, 9, 4, 1: 30
    const SpectrumView spectrum{values, 30};
    const auto rank = [&](const RankRule& rule) { return choose_rank(rule, 8, 4, spectrum).rank; };
    CHECK(rank(fixed_rank(3)) == 3);
    CHECK(rank(energy_kept(24.999 / 30)) == 2);
    CHECK(rank(energy_kept(25.001 / 30)) == 3);
    CHECK(rank(energy_kept(1)) == 4);
    CHECK(rank(relative_error(std::sqrt(5.0001 / 30))) == 2);
    CHECK(rank(relative_error(std::sqrt(4.9999 / 30))) == 3);
    CHECK(rank(relative_error(0)) == 4);
    CHECK(rank(relative_error(0.999)) == 1);
    CHECK(rank(parameter_share(0.5)) == 1);
    CHECK(rank(parameter_share(0.9)) == 2);
    CHECK(choose_rank(relative_error(0.1), 8, 4, {std::vector<double>{0, 0, 0, 0}, 0}).rank == 1);
}

TEST_CASE("A cut-off spectrum answers where it can", "[rank]") {
    const std::vector<double> values{4, 3};
    const SpectrumView spectrum{values, 30};
    CHECK(try_choose_rank(relative_error(std::sqrt(5.001 / 30)), 8, 4, spectrum)->rank == 2);
    CHECK_FALSE(try_choose_rank(relative_error(0.1), 8, 4, spectrum));
    CHECK_THROWS_AS(choose_rank(relative_error(0.1), 8, 4, spectrum), ValueError);
}

TEST_CASE("Alignment rounds sizes down and promises of accuracy up; the clamp has the last word", "[rank]") {
    const std::vector<double> values(64, 1.0);
    const SpectrumView spectrum{values, 64};
    const auto rank = [&](const RankRule& rule) { return choose_rank(rule, 64, 64, spectrum).rank; };
    CHECK(rank(fixed_rank(31).aligned(16)) == 16);
    CHECK(rank(fixed_rank(3).aligned(16)) == 16);
    CHECK(rank(parameter_share(0.8).aligned(16)) == 16);  // 0.8 x 32 = 25.6
    CHECK(rank(energy_kept(17.0 / 64).aligned(16)) == 32);
    CHECK(rank(energy_kept(63.0 / 64).aligned(48)) == 64);
    CHECK(rank(fixed_rank(60).clamped(1, 20)) == 20);
    CHECK(rank(fixed_rank(2).aligned(4).clamped(10, 20)) == 10);
    CHECK(rank(fixed_rank(2).clamped(100, 200)) == 64);
}

TEST_CASE("At or above break-even the layer stays dense", "[rank]") {
    CHECK(choose_rank(fixed_rank(31), 64, 64) == RankChoice{31, false});
    CHECK(choose_rank(fixed_rank(32), 64, 64) == RankChoice{32, true});
}

TEST_CASE("Rules out of their domain are refused", "[rank]") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(fixed_rank(0), ValueError);
    CHECK_THROWS_AS(fixed_rank(-3), ValueError);
    CHECK_THROWS_AS(energy_kept(0), ValueError);
    CHECK_THROWS_AS(energy_kept(1.5), ValueError);
    CHECK_THROWS_AS(relative_error(-0.1), ValueError);
    CHECK_THROWS_AS(relative_error(nan), ValueError);
    CHECK_THROWS_AS(parameter_share(1), ValueError);
    CHECK_THROWS_AS(parameter_share(nan), ValueError);
    CHECK_THROWS_AS(fixed_rank(1).aligned(0), ValueError);
    CHECK_THROWS_AS(fixed_rank(1).clamped(5, 4), ValueError);
    CHECK_THROWS_AS(choose_rank(fixed_rank(5), 8, 4), ValueError);
    CHECK_THROWS_AS(choose_rank(fixed_rank(1), 0, 4), ShapeError);
    CHECK(relative_error(0.1).aligned(8).clamped(2, 9).describe() == "error 0.1, multiple of 8, at least 2, at most 9");
}

TEST_CASE("A multiple above every rank rounds to full rank", "[rank]") {
    const std::vector<double> values(4, 1.0);
    CHECK(choose_rank(energy_kept(0.5).aligned(std::numeric_limits<std::int64_t>::max()), 4, 6, {values, 4}).rank == 4);
}
