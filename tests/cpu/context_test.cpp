#include <lowrank/cpu/context.hpp>

#include "../catch.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace lowrank;

TEST_CASE("Every index runs once, whoever's threads they are", "[context]") {
    const auto pool = [](std::int64_t count, cpu::Task task) {
        std::atomic<std::int64_t> next = 0;
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
                for (std::int64_t i = next++; i < count; i = next++) task(i);
            });
        }
        for (std::thread& thread : threads) thread.join();
    };
    for (const cpu::Context& context : {cpu::Context(), cpu::Context({.threads = 1}), cpu::Context({.threads = 5}),
                                        cpu::Context({.threads = 3, .parallel_for = pool})}) {
        std::vector<std::atomic<int>> calls(100);
        context.parallel_for(100, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
        CHECK(std::all_of(calls.begin(), calls.end(), [](const auto& n) { return n == 1; }));
        context.parallel_for(0, [](std::int64_t) { throw std::runtime_error("must not run"); });
        CHECK_THROWS_AS(context.parallel_for(7,
                                             [](std::int64_t i) {
                                                 if (i == 3) throw std::runtime_error("three");
                                             }),
                        std::runtime_error);
        CHECK(context.serial().threads() == 1);
    }
}

TEST_CASE("Impossible contexts are refused", "[context]") {
    CHECK_THROWS_AS(cpu::Context({.threads = -1}), ValueError);
    CHECK_THROWS_AS(cpu::Context({.parallel_for = [](std::int64_t, cpu::Task) {}}), ValueError);
    if (cpu::detect_isa() < cpu::Isa::avx512_bf16) {
        CHECK_THROWS_AS(cpu::Context({.isa = cpu::Isa::avx512_bf16}), BackendError);
    }
}

TEST_CASE("Every level up to the machine's can be forced", "[context]") {
    for (const auto isa : cpu::kEveryIsa) {
        if (isa <= cpu::detect_isa()) CHECK(cpu::Context({.isa = isa}).isa() == isa);
    }
}
