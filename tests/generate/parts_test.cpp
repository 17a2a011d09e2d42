// The engine's smaller parts: vector loops, sampling, the chat form.
#include "chat.hpp"
#include "kernels.hpp"
#include "sampler.hpp"

#include "../checkpoint/support.hpp"

#include <lowrank/cpu/isa.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <vector>

using namespace engine;
using lowrank_test::mentions;
using lowrank_test::message_of;

namespace {

std::vector<float> random_values(std::size_t count, float scale, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
}

template <class F>
void on_each_level(F&& body) {
    using lowrank::cpu::Isa;
    for (auto isa = Isa::portable; isa <= lowrank::cpu::detect_isa(); isa = Isa(static_cast<int>(isa) + 1)) {
        CAPTURE(lowrank::cpu::isa_name(isa));
        body(kernels_for<float>(isa));
    }
}

}  // namespace

TEST_CASE("vector loops agree with double arithmetic at every length") {
    constexpr double kUnit = 1.0 / (1 << 24);
    on_each_level([&](const Kernels<float>& kernels) {
        for (const std::size_t size : std::vector<std::size_t>{1, 2, 15, 16, 17, 63, 64, 65, 200}) {
            CAPTURE(size);
            const auto count = static_cast<std::int64_t>(size);
            const std::vector<float> x = random_values(size, 3, 1);
            const std::vector<float> y = random_values(size, 3, 2);
            const double n = static_cast<double>(size);

            double dot = 0, absolute = 0, largest = x[0], exponentials = 0, squares = 0, sum = 0, deviations = 0;
            for (std::size_t i = 0; i < size; ++i) {
                dot += double{x[i]} * y[i];
                absolute += std::abs(double{x[i]} * y[i]);
                largest = std::max(largest, double{x[i]});
                squares += double{x[i]} * x[i];
                sum += double{x[i]};
            }
            for (const float value : x) {
                exponentials += std::exp(value - largest);
                deviations += std::pow(value - sum / n, 2);
            }
            float score = 0;
            kernels.scores(x.data(), y.data(), 1, count, 0.5F, &score);
            CHECK(std::abs(score - 0.5 * dot) <= (n + 2) * kUnit * absolute);
            CHECK(std::abs(kernels.log_sum_exp(x.data(), count) - (largest + std::log(exponentials))) <
                  (n + 10) * 2 * kUnit + 4 * kUnit * std::abs(largest));

            // 4 units for fast_exp and the scaling, n for the sum.
            std::vector<float> out(x);
            kernels.softmax(out.data(), count);
            std::vector<float> silu(size), rms(size), norm(size);
            kernels.gated_silu(x.data(), y.data(), count, silu.data());
            kernels.rms_norm(x.data(), y.data(), 1e-5F, count, rms.data());
            kernels.layer_norm(x.data(), y.data(), y.data(), 1e-5F, count, norm.data());
            for (std::size_t i = 0; i < size; ++i) {
                const double p = std::exp(x[i] - largest) / exponentials;
                CHECK(std::abs(out[i] - p) <= (n + 20) * kUnit * p * (1 + std::abs(x[i] - largest)));
                const double s = x[i] / (1 + std::exp(-double{x[i]})) * y[i];
                CHECK(std::abs(silu[i] - s) <= 16 * kUnit * std::abs(s) * (1 + std::abs(x[i])));
                const double r = x[i] / std::sqrt(squares / n + 1e-5) * y[i];
                CHECK(std::abs(rms[i] - r) <= (n + 8) * kUnit * std::abs(r));
                const double centred = (x[i] - sum / n) / std::sqrt(deviations / n + 1e-5);
                CHECK(std::abs(norm[i] - (centred * y[i] + y[i])) <=
                      (n + 16) * 4 * kUnit * (1 + std::abs(centred)) * (std::abs(y[i]) + 1));
            }

            constexpr std::size_t kValues = 7;
            const std::vector<float> values = random_values(kValues * size, 1, 3);
            const std::vector<float> weights = random_values(kValues, 1, 4);
            std::vector<float> mixture(size);
            kernels.weighted_sum(weights.data(), values.data(), kValues, count, mixture.data());
            for (std::size_t j = 0; j < size; ++j) {
                double wanted = 0, bound = 0;
                for (std::size_t i = 0; i < kValues; ++i) {
                    wanted += double{weights[i]} * values[i * size + j];
                    bound += std::abs(double{weights[i]} * values[i * size + j]);
                }
                CHECK(std::abs(mixture[j] - wanted) <= (kValues + 2) * kUnit * bound);
            }
        }
    });
}

TEST_CASE("the exponential is accurate to the ends of its range") {
    on_each_level([&](const Kernels<float>& kernels) {
        std::vector<float> x;
        for (double value = -86; value <= 0; value += 0.037) x.push_back(static_cast<float>(value));
        std::vector<float> pair(2);
        for (const float value : x) {
            pair = {0, value};
            kernels.softmax(pair.data(), 2);
            const double wanted = 1 / (1 + std::exp(-double{value}));
            CHECK(std::abs(pair[1] - wanted) <= 4e-7 * wanted);
        }
        pair = {0, -1e30F};
        kernels.softmax(pair.data(), 2);
        CHECK(pair[0] == 1);
        CHECK(pair[1] < 1e-37F);
    });
}

TEST_CASE("the greedy choice is the largest logit, the first of equals") {
    Sampler sampler({});
    CHECK(sampler.choose(std::vector<float>{0, 3, -1, 3}) == 1);
    CHECK_THROWS_AS(sampler.choose(std::vector<float>{0, std::numeric_limits<float>::quiet_NaN()}),
                    lowrank::ValueError);
    CHECK_THROWS_AS(sampler.choose(std::vector<float>{0, std::numeric_limits<float>::infinity()}), lowrank::ValueError);
}

TEST_CASE("sampling follows the temperature's probabilities, and a seed gives the same choices") {
    const std::vector<float> logits = {1.0F, 2.0F, 0.0F};
    constexpr int kDraws = 20'000;
    const auto draw = [&](Sampling options) {
        Sampler sampler(options);
        std::vector<Token> tokens;
        for (int i = 0; i < kDraws; ++i) tokens.push_back(sampler.choose(logits));
        return tokens;
    };
    const auto tokens = draw({.temperature = 0.5, .seed = 7});
    CHECK(tokens == draw({.temperature = 0.5, .seed = 7}));
    CHECK(tokens != draw({.temperature = 0.5, .seed = 8}));
    const double total = std::exp(2) + std::exp(4) + 1;
    for (Token token = 0; token < 3; ++token) {
        const double p = std::exp(2 * logits[static_cast<std::size_t>(token)]) / total;
        const double drawn = static_cast<double>(std::count(tokens.begin(), tokens.end(), token)) / kDraws;
        CHECK(std::abs(drawn - p) < 5 * std::sqrt(p * (1 - p) / kDraws));
    }
    // Of the probabilities 0.867, 0.117, 0.016 the first two hold 0.9.
    const auto likely = draw({.temperature = 0.5, .top_p = 0.9, .seed = 7});
    CHECK(std::count(likely.begin(), likely.end(), 2) == 0);
    CHECK(std::count(likely.begin(), likely.end(), 0) > 0);
    const auto best = draw({.temperature = 0.5, .top_p = 0.0, .seed = 7});
    CHECK(std::count(best.begin(), best.end(), 1) == kDraws);
}

TEST_CASE("the ChatML template is recognised, with its system text") {
    const lowrank_test::TemporaryFolder folder;
    CHECK_FALSE(ChatForm::load(folder.path()));
    const std::string smollm =
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
        "'<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
        "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|im_start|>assistant\n' }}{% endif %}";
    lowrank_test::write_file(folder / "tokenizer_config.json", nlohmann::json({{"chat_template", smollm}}).dump());
    const auto form = ChatForm::load(folder.path());
    REQUIRE(form);
    CHECK(form->render("Hi", {}) ==
          "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    CHECK(form->render("Hi", "Rhyme") ==
          "<|im_start|>system\nRhyme<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");

    lowrank_test::write_file(folder / "chat_template.jinja",
                             "{% for message in messages %}{{ \"<|im_start|>\" + message.role + \"\\n\" + "
                             "message.content + \"<|im_end|>\\n\" }}{% endfor %}");
    const auto plain = ChatForm::load(folder.path());
    REQUIRE(plain);
    CHECK(plain->render("Hi", {}) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");

    lowrank_test::write_file(folder / "chat_template.jinja", "[INST] {{ messages }} [/INST]");
    CHECK(mentions(message_of<lowrank::FormatError>([&] { ChatForm::load(folder.path()); }),
                   {"chat_template.jinja", "--raw"}));
}
