// A weight in host memory is not handed to a device context; it is copied there first.
#include <lowrank/cuda/decompose.hpp>

auto decompose_on_device(lowrank::cuda::Context& gpu, lowrank::MatrixView<const float> weight) {
#ifdef BAD
    return lowrank::decompose(gpu, weight, {.rank = lowrank::fixed_rank(1)});
#else
    return lowrank::decompose(gpu, lowrank::cuda::to_device(gpu, weight), {.rank = lowrank::fixed_rank(1)});
#endif
}
