// Runs every level that the machine has, and says which one it took for the highest: started under an emulator of a
// smaller processor, it shows that no instruction runs there which that processor does not have.
//
//     smaller_machine EXPECTED_LEVEL
#include <lowrank/cpu/gemm.hpp>
#include <lowrank/low_rank_linear.hpp>

#include "forward_reference.hpp"

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

using namespace lowrank;
using test::gaussian;

namespace {

template <class T>
bool run(const cpu::Context& context) {
    const Matrix<T> w1 = gaussian<T>(50, 17, 1);
    const Matrix<T> w2 = gaussian<T>(17, 35, 2);
    const LowRankLinear<T> layer(w1, w2, WeightLayout::in_out);
    bool right = true;
    for (const std::int64_t rows : {1, 2, 5, 9, 31}) {
        const Matrix<T> x = gaussian<T>(rows, 50, 3);
        Matrix<T> y = layer.forward(context, x);
        const test::ForwardReference reference(x, w1, &w2, std::vector<compute_t<T>>());
        right = right && reference.outside(y.view(), test::Rounded::to_bf16) == 0;
        Matrix<compute_t<T>> product(rows, 17);
        gemm(context, compute_t<T>{1}, x, cpu::Transpose::no, w1, cpu::Transpose::no, compute_t<T>{0}, product.view());
        const test::ForwardReference first(x, w1, static_cast<const Matrix<T>*>(nullptr), std::vector<compute_t<T>>());
        right = right && first.outside(product.view()) == 0;
    }
    return right;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string found = cpu::isa_name(cpu::detect_isa());
    std::printf("highest level: %s\n", found.c_str());
    bool right = argc < 2 || found == argv[1];
    for (const cpu::Isa isa : test::levels()) {
        const cpu::Context context({.threads = 1, .isa = isa});
        right = run<float>(context) && run<double>(context) && run<bf16>(context) && run<f16>(context) && right;
    }
    std::puts(right ? "right" : "wrong");
    return right ? 0 : 1;
}
