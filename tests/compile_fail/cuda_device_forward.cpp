// X and Y of a layer on the device lie on the device.
#include <lowrank/cuda/low_rank_linear.hpp>

using Layer = lowrank::cuda::LowRankLinear<float>;
#ifdef BAD
using X = lowrank::MatrixView<const float>;
#else
using X = lowrank::MatrixView<const float, lowrank::cuda::DeviceSpace>;
#endif

void forward(lowrank::cuda::Context& gpu, const Layer& layer, X x,
             lowrank::MatrixView<float, lowrank::cuda::DeviceSpace> y, lowrank::cuda::Workspace& workspace) {
    layer.forward(gpu, x, y, workspace);
}
