// The contract of forward() as test cases; include it where CONTRACT_BACKEND and CONTRACT_GUARD are defined.
TEMPLATE_TEST_CASE("Forward is X W1 W2 + b for any sizes", "[contract]", float, double, lowrank::bf16, lowrank::f16) {
    CONTRACT_GUARD;
    contract::forward_is_the_product_for_any_sizes<CONTRACT_BACKEND, TestType>();
}

TEMPLATE_TEST_CASE("X and Y may be strided", "[contract]", float, double, lowrank::bf16) {
    CONTRACT_GUARD;
    contract::strided_views_are_read_and_written_in_place<CONTRACT_BACKEND, TestType>();
}

TEST_CASE("Both layouts give the same layer", "[contract]") {
    CONTRACT_GUARD;
    contract::layouts_agree<CONTRACT_BACKEND>();
}

TEST_CASE("Sizes that do not fit are refused with the sizes", "[contract]") {
    CONTRACT_GUARD;
    contract::wrong_sizes_are_refused_with_the_sizes<CONTRACT_BACKEND>();
}
