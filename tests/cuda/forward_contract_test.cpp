#include "contract/forward.hpp"
#include "device_backend.hpp"
#include "device_test.hpp"

using test::DeviceBackend;

TEMPLATE_TEST_CASE("On the device, forward is X W1 W2 + b for any sizes", "[cuda]", float, double, lowrank::bf16,
                   lowrank::f16) {
    const test::CleanDevice clean;
    contract::forward_is_the_product_for_any_sizes<DeviceBackend, TestType>();
}

TEMPLATE_TEST_CASE("On the device, X and Y may be strided", "[cuda]", float, double, lowrank::bf16) {
    const test::CleanDevice clean;
    contract::strided_views_are_read_and_written_in_place<DeviceBackend, TestType>();
}

TEST_CASE("On the device, both layouts give the same layer", "[cuda]") {
    const test::CleanDevice clean;
    contract::layouts_agree<DeviceBackend>();
}

TEST_CASE("On the device, sizes that do not fit are refused with the sizes", "[cuda]") {
    const test::CleanDevice clean;
    contract::wrong_sizes_are_refused_with_the_sizes<DeviceBackend>();
}
