#include "contract/decompose.hpp"
#include "device_backend.hpp"
#include "device_test.hpp"

using test::DeviceBackend;

TEMPLATE_TEST_CASE("On the device, the exact error is the least possible", "[cuda]", float, double) {
    const test::CleanDevice clean;
    contract::exact_error_is_the_least_possible<DeviceBackend, TestType>();
}

TEMPLATE_TEST_CASE("On the device, the fast error is within the excess", "[cuda]", float, double) {
    const test::CleanDevice clean;
    contract::fast_error_is_within_the_excess<DeviceBackend, TestType>();
}

TEST_CASE("On the device, a weight of low rank is recovered", "[cuda]") {
    const test::CleanDevice clean;
    contract::a_low_rank_weight_is_recovered<DeviceBackend>();
}

TEST_CASE("On the device, W1 is orthonormal and W2 carries the singular values", "[cuda]") {
    const test::CleanDevice clean;
    contract::w1_is_orthonormal_and_w2_carries_the_singular_values<DeviceBackend>();
}

TEST_CASE("On the device, the layout says how the weight lies in memory", "[cuda]") {
    const test::CleanDevice clean;
    contract::the_layout_says_how_the_weight_lies<DeviceBackend>();
}

TEST_CASE("On the device, scaling by a power of two scales the factors exactly", "[cuda]") {
    const test::CleanDevice clean;
    contract::scaling_by_a_power_of_two_scales_the_factors_exactly<DeviceBackend>();
}

TEST_CASE("On the device, half types compute in float", "[cuda]") {
    const test::CleanDevice clean;
    contract::half_types_compute_in_float<DeviceBackend>();
}

TEST_CASE("On the device, rules of energy, error and share choose the rank", "[cuda]") {
    const test::CleanDevice clean;
    contract::rules_choose_the_rank<DeviceBackend>();
}

TEST_CASE("On the device, degenerate weights have factors", "[cuda]") {
    const test::CleanDevice clean;
    contract::degenerate_weights_have_factors<DeviceBackend>();
}

TEST_CASE("On the device, bad input is refused by name", "[cuda]") {
    const test::CleanDevice clean;
    contract::bad_input_is_refused_by_name<DeviceBackend>();
}
