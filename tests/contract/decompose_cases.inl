// The contract of decompose() as test cases; include it where CONTRACT_BACKEND and CONTRACT_GUARD are defined.
TEMPLATE_TEST_CASE("The exact error is the least possible", "[contract]", float, double) {
    CONTRACT_GUARD;
    contract::exact_error_is_the_least_possible<CONTRACT_BACKEND, TestType>();
}

TEMPLATE_TEST_CASE("The fast error is within the excess", "[contract]", float, double) {
    CONTRACT_GUARD;
    contract::fast_error_is_within_the_excess<CONTRACT_BACKEND, TestType>();
}

TEST_CASE("A weight of low rank is recovered", "[contract]") {
    CONTRACT_GUARD;
    contract::a_low_rank_weight_is_recovered<CONTRACT_BACKEND>();
}

TEST_CASE("W1 is orthonormal and W2 carries the singular values", "[contract]") {
    CONTRACT_GUARD;
    contract::w1_is_orthonormal_and_w2_carries_the_singular_values<CONTRACT_BACKEND>();
}

TEST_CASE("The layout says how the weight lies in memory", "[contract]") {
    CONTRACT_GUARD;
    contract::the_layout_says_how_the_weight_lies<CONTRACT_BACKEND>();
}

TEST_CASE("Scaling by a power of two scales the factors exactly", "[contract]") {
    CONTRACT_GUARD;
    contract::scaling_by_a_power_of_two_scales_the_factors_exactly<CONTRACT_BACKEND>();
}

TEST_CASE("Half types compute in float", "[contract]") {
    CONTRACT_GUARD;
    contract::half_types_compute_in_float<CONTRACT_BACKEND>();
}

TEST_CASE("Rules of energy, error and share choose the rank", "[contract]") {
    CONTRACT_GUARD;
    contract::rules_choose_the_rank<CONTRACT_BACKEND>();
}

TEST_CASE("Degenerate weights have factors", "[contract]") {
    CONTRACT_GUARD;
    contract::degenerate_weights_have_factors<CONTRACT_BACKEND>();
}

TEST_CASE("Bad input is refused by name", "[contract]") {
    CONTRACT_GUARD;
    contract::bad_input_is_refused_by_name<CONTRACT_BACKEND>();
}
