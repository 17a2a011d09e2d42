// A view of host memory is no view of another memory space.
#include <lowrank/matrix.hpp>

struct OtherSpace {};
using Host = lowrank::MatrixView<const float>;
using Other = lowrank::MatrixView<const float, OtherSpace>;

#ifdef BAD
Other convert(Host view) {
    return view;
}
#else
Host convert(lowrank::MatrixView<float> view) {
    return view;
}
#endif
