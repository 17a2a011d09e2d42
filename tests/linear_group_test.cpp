#include <lowrank/linear_group.hpp>

#include "catch.hpp"
#include "forward_reference.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

using namespace lowrank;
using test::gaussian;

namespace {

LowRankLinear<bf16> low_rank(std::int64_t rank, std::int64_t d_out, unsigned seed) {
    return {gaussian<bf16>(150, rank, seed), gaussian<bf16>(rank, d_out, seed + 1), WeightLayout::in_out,
            std::vector<float>(static_cast<std::size_t>(d_out), 0.5F)};
}

bool equal(MatrixView<const bf16> a, MatrixView<const bf16> b) {
    bool same = true;
    for (std::int64_t i = 0; i < a.rows(); ++i) {
        for (std::int64_t j = 0; j < a.cols(); ++j) same = same && a(i, j).bits == b(i, j).bits;
    }
    return same;
}

}  // namespace

TEST_CASE("A group gives each layer's own result, bit for bit", "[linear_group]") {
    const LowRankLinear<bf16> q = low_rank(40, 90, 1);
    const Linear<bf16> k(gaussian<bf16>(150, 33, 5), WeightLayout::in_out);
    const LowRankLinear<bf16> v = low_rank(7, 70, 8);
    const LinearGroup<bf16> group(q, k, v);
    for (const cpu::Isa isa : test::levels()) {
        for (const int threads : {1, 3}) {
            const cpu::Context context({.threads = threads, .isa = isa});
            for (const std::int64_t rows : {1, 5, 40, 300}) {
                const Matrix<bf16> x = gaussian<bf16>(rows, 150, 3);
                Matrix<bf16> together(rows, 90 + 33 + 70);  // as parts of one matrix
                Workspace workspace;
                const std::array<MatrixView<bf16>, 3> ys{together.view().block(0, 0, rows, 90),
                                                         together.view().block(0, 90, rows, 33),
                                                         together.view().block(0, 123, rows, 70)};
                group.forward(context, x, ys, workspace);
                CAPTURE(isa_name(isa), threads, rows);
                CHECK(equal(ys[0], q.forward(context, x).view()));
                CHECK(equal(ys[1], k.forward(context, x).view()));
                CHECK(equal(ys[2], v.forward(context, x).view()));
            }
        }
    }
}

TEST_CASE("A group's results may be float", "[linear_group]") {
    const LinearGroup<bf16> group(low_rank(40, 90, 1));
    const cpu::Context context;
    const Matrix<bf16> x = gaussian<bf16>(2, 150, 3);
    Matrix<float> y(2, 90);
    std::vector<std::byte> workspace(group.workspace_bytes(context, 2));
    group.forward(context, x, std::array{y.view()}, std::span(workspace));
    Matrix<float> again(2, 90);
    Workspace growing;
    group.forward(context, x, std::array{again.view()}, growing);
    CHECK(std::equal(y.data(), y.data() + y.size(), again.data()));
    const LowRankLinear<bf16>& layer = std::get<LowRankLinear<bf16>>(group.layers()[0]);
    const Matrix<bf16> w2 = layer.w2();
    const std::vector<float> bias(90, 0.5F);
    CHECK(test::ForwardReference(x, layer.w1(), &w2, bias).outside(y.view()) == 0);
}

TEST_CASE("A group refuses what does not fit together", "[linear_group]") {
    CHECK_THROWS_WITH(LinearGroup<float>(Linear<float>(Matrix<float>(3, 4), WeightLayout::in_out),
                                         Linear<float>(Matrix<float>(5, 4), WeightLayout::in_out)),
                      "layers that share their input need the same d_in, not 3 and 5");
    CHECK_THROWS_AS(LinearGroup<float>(std::vector<LinearGroup<float>::Layer>{}), ShapeError);
    const LinearGroup<float> group(Linear<float>(Matrix<float>(3, 4), WeightLayout::in_out));
    const cpu::Context context;
    Workspace workspace;
    Matrix<float> y(2, 5);
    CHECK_THROWS_WITH(group.forward(context, Matrix<float>(2, 3), std::array{y.view()}, workspace),
                      "a layer of 3 x 4 cannot map X, 2 x 3, to Y, 2 x 5");
    CHECK_THROWS_AS(group.forward(context, Matrix<float>(2, 3), std::array{y.view(), y.view()}, workspace), ShapeError);
}
