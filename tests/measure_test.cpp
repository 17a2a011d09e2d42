#include <lowrank/measure.hpp>

#include "catch.hpp"

using namespace lowrank;

TEST_CASE("Measuring gives times of both kinds of layer, and says which is faster", "[measure]") {
    const cpu::Context context({.threads = 1});
    const MeasureOptions options{.seconds = 0.001, .weight_bytes = 1 << 20};
    const ForwardTimes times =
        measure_forward<float>(context, {.d_in = 512, .d_out = 512, .rank = 8, .rows = 16}, options);
    CHECK(times.dense > 0);
    CHECK(times.low_rank > 0);
    CHECK(times.low_rank_pays() == (times.speed_up() > 1));
    CHECK_THROWS_AS(measure_forward<bf16>(context, {.d_in = -1, .d_out = 4, .rank = 1}), ShapeError);
}
