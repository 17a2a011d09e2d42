// Options without a rank are a mistake that the compiler finds.
#include <lowrank/decompose_options.hpp>

#ifdef BAD
const lowrank::DecomposeOptions options{.layout = lowrank::WeightLayout::out_in};
#else
const lowrank::DecomposeOptions options{.rank = lowrank::fixed_rank(1), .layout = lowrank::WeightLayout::out_in};
#endif
