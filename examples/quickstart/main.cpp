// quickstart - factorise one layer and run it: what an engine does with the library, in ten lines.
#include <lowrank/lowrank.hpp>

#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace {

/// A weight with quickly falling singular values, as trained layers have: a product of rank 64, and noise.
lowrank::Matrix<float> example_weight(std::int64_t d_in, std::int64_t d_out) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    lowrank::Matrix<float> left(d_in, 64);
    lowrank::Matrix<float> right(64, d_out);
    for (float* x = left.data(); x != left.data() + left.size(); ++x) *x = normal(random);
    for (float* x = right.data(); x != right.data() + right.size(); ++x) *x = normal(random);
    lowrank::Matrix<float> weight(d_in, d_out);
    for (std::int64_t i = 0; i < d_in; ++i) {
        for (std::int64_t j = 0; j < d_out; ++j) {
            weight(i, j) = normal(random);
            for (std::int64_t k = 0; k < 64; ++k) weight(i, j) += left(i, k) * right(k, j);
        }
    }
    return weight;
}

}  // namespace

int main() {
    const lowrank::Matrix<float> W = example_weight(512, 768);
    const std::vector<float> bias(768, 0.5F);
    const lowrank::Matrix<lowrank::bf16> X(4, 512);
    lowrank::Matrix<lowrank::bf16> Y(4, 768);
    lowrank::Workspace workspace;

    const lowrank::cpu::Context cpu;
    const auto factors = lowrank::decompose(cpu, W, {.rank = lowrank::fixed_rank(64)});
    const lowrank::LowRankLinear<lowrank::bf16> layer(factors, bias);
    layer.forward(cpu, X, Y, workspace);  // Y = X W1 W2 + b

    std::printf("%lld -> %lld parameters, relative error %.4f\n", static_cast<long long>(factors.dense_parameters()),
                static_cast<long long>(factors.parameters()), factors.relative_error);
}
