// A view of const elements does not become one of mutable elements.
#include <lowrank/matrix.hpp>

using View = lowrank::MatrixView<float>;
using ConstView = lowrank::MatrixView<const float>;

#ifdef BAD
View convert(ConstView view) {
    return view;
}
#else
ConstView convert(View view) {
    return view;
}
#endif
