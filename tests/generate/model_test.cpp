// The engine's logits against those of the transformers library (make-model-fixtures), on every architecture, option
// and storage type, and on every instruction-set level of this machine.
#include "language_model.hpp"

#include <lowrank/cpu/context.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include "catch.hpp"
#include "count_allocations.hpp"
#include "generate/support.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <string>
#include <vector>

using namespace lowrank;
using engine::Token;
using test::Expected;
using test::expected;
using test::kModels;

namespace {

/// Logits after each token, fed in pieces of these sizes, the last repeated.
Matrix<float> run(const engine::LanguageModel& model, const cpu::Context& context, std::span<const Token> ids,
                  std::vector<std::size_t> pieces) {
    const auto count = static_cast<std::int64_t>(ids.size());
    const auto session = model.start(context, {.capacity = count, .rows = count});
    Matrix<float> all(count, model.config().vocabulary);
    for (std::size_t i = 0; !ids.empty(); ++i) {
        const auto piece = ids.first(std::min(ids.size(), pieces[std::min(i, pieces.size() - 1)]));
        const std::int64_t begin = session->position();
        session->feed(piece);
        const auto logits = session->logits(0, static_cast<std::int64_t>(piece.size()));
        std::copy_n(logits.data(), logits.rows() * logits.cols(), all.row(begin));
        ids = ids.subspan(piece.size());
    }
    return all;
}

double largest_difference(const Matrix<float>& a, const Matrix<float>& b) {
    REQUIRE(a.size() == b.size());
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
        if (!(difference <= most)) most = difference;  // also for NaN
    }
    return most;
}

// Two blocks of width 24 and logits of a few units: about 10 roundings of 2^-24 relative to values up to 10 in each of
// some 20 steps.
constexpr double kFloatBound = 10.0 * 20 * 10 / (1 << 24);

}  // namespace

TEST_CASE("the logits are those of transformers, fed at once or token by token") {
    const std::string name = GENERATE(from_range(kModels));
    CAPTURE(name);
    const Expected wanted = expected(name);
    const auto model = engine::load_model(test::model_folder(name), engine::StorageType::f32);
    const cpu::Context context({.threads = 2});
    CHECK(largest_difference(run(*model, context, wanted.ids, {37}), wanted.logits) < kFloatBound);
    CHECK(largest_difference(run(*model, context, wanted.ids, {1}), wanted.logits) < kFloatBound);
    CHECK(largest_difference(run(*model, context, wanted.ids, {5, 19, 1, 12}), wanted.logits) < kFloatBound);
}

TEST_CASE("the logits are the same on every instruction-set level") {
    const std::string name = GENERATE(from_range(kModels));
    CAPTURE(name);
    const Expected wanted = expected(name);
    const auto model = engine::load_model(test::model_folder(name), engine::StorageType::f32);
    for (auto isa = cpu::Isa::portable; isa <= cpu::detect_isa(); isa = cpu::Isa(static_cast<int>(isa) + 1)) {
        CAPTURE(cpu::isa_name(isa));
        const cpu::Context context({.threads = 1, .isa = isa});
        CHECK(largest_difference(run(*model, context, wanted.ids, {20, 1}), wanted.logits) < kFloatBound);
    }
}

TEST_CASE("storage in 16 bits rounds weights and the inputs of linear layers, nothing else") {
    const std::string name = GENERATE(from_range(kModels));
    CAPTURE(name);
    const Expected wanted = expected(name);
    const cpu::Context context({.threads = 2});
    double scale = 0;
    for (std::size_t i = 0; i < wanted.logits.size(); ++i) scale += std::pow(wanted.logits.data()[i], 2);
    const auto error = [&](engine::StorageType type) {
        const auto model = engine::load_model(test::model_folder(name), type);
        CHECK(model->type() == type);
        const Matrix<float> logits = run(*model, context, wanted.ids, {37});
        double sum = 0;
        for (std::size_t i = 0; i < logits.size(); ++i) sum += std::pow(logits.data()[i] - wanted.logits.data()[i], 2);
        return std::sqrt(sum / scale);
    };
    // Root mean square: each of some 20 roundings, of relative size up to u, is amplified at most a few times.
    CHECK(error(engine::StorageType::bf16) < 20 * std::ldexp(1.0, -9));
    CHECK(error(engine::StorageType::f16) < 20 * std::ldexp(1.0, -12));
    CHECK(error(engine::StorageType::f32) < 20 * std::ldexp(1.0, -24) * 10);
}

TEST_CASE("a model keeps the type that it is stored in, and knows its size") {
    const auto bf16_model = engine::load_model(test::model_folder("llama"));
    CHECK(bf16_model->type() == engine::StorageType::bf16);
    // 40 x 24 shared by embedding and head; each block 2 x 24 x 24, 2 x 24 x 12, 3 x 24 x 36 and two norms.
    CHECK(bf16_model->parameters() == 960 + 2 * (2 * 576 + 2 * 288 + 3 * 864 + 48) + 24);
    CHECK(bf16_model->low_rank_layers() == 0);
    CHECK(bf16_model->linear_layers() == 15);
    const auto low_rank = engine::load_model(test::model_folder("llama-low-rank"));
    CHECK(low_rank->type() == engine::StorageType::f32);
    CHECK(low_rank->low_rank_layers() == 7);
}

TEST_CASE("a token that is read alone allocates nothing") {
    const std::string name = GENERATE(from_range(kModels));
    CAPTURE(name);
    const auto type = GENERATE(engine::StorageType::f32, engine::StorageType::bf16);
    const auto model = engine::load_model(test::model_folder(name), type);
    const cpu::Context context({.threads = 2});
    const auto session = model->start(context, {.capacity = 16, .rows = 8});
    const std::vector<Token> ids = {1, 2, 3, 4, 5};
    session->feed(ids);
    const std::span<const Token> one(ids.data(), 1);
    session->feed(one);
    static_cast<void>(session->logits(0, 1));
    const long before = test::allocations;
    for (int i = 0; i < 5; ++i) {
        session->feed(one);
        static_cast<void>(session->logits(0, 1));
    }
    CHECK(test::allocations == before);
}

TEST_CASE("a session refuses what it cannot do, and goes on") {
    const auto model = engine::load_model(test::model_folder("llama"), engine::StorageType::f32);
    const Expected wanted = expected("llama");
    const cpu::Context context({.threads = 1});
    const auto session = model->start(context, {.capacity = 8, .rows = 4});
    const std::span<const Token> ids(wanted.ids);
    CHECK_THROWS_AS(session->feed(ids.first(5)), ValueError);
    CHECK_THROWS_AS(session->feed(std::vector<Token>{40}), ValueError);
    CHECK_THROWS_AS(session->feed(std::vector<Token>{-1}), ValueError);
    session->feed(ids.first(4));
    CHECK_THROWS_AS(session->logits(0, 5), ValueError);
    session->feed(ids.subspan(4, 4));
    CHECK(session->position() == 8);
    CHECK_THROWS_AS(session->feed(ids.first(1)), ValueError);
    session->restart();
    session->feed({});
    session->feed(ids.first(4));
    const auto logits = session->logits(3, 1);
    for (std::int64_t j = 0; j < logits.cols(); ++j) CHECK(std::abs(logits(0, j) - wanted.logits(3, j)) < kFloatBound);
}
