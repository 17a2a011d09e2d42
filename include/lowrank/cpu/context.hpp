// lowrank - the CPU context: how many threads, whose threads, and which instruction-set level.
// SPDX-License-Identifier: MIT
//
// The context is the first argument of every operation and selects the backend. It is cheap to make and to copy,
// holds no scratch memory, and may be shared by threads. Threads are OpenMP's where the translation unit is compiled
// with it, the host's own where it passes `parallel_for`, else only the caller's: none is started behind its back.
//
//     lowrank::cpu::Context cpu;                          // all OpenMP threads, the machine's best kernels
//     lowrank::cpu::Context two({.threads = 2});
//     lowrank::cpu::Context mine({.threads = pool.size(), .parallel_for = [&](std::int64_t n, lowrank::cpu::Task task)
//     {
//         pool.run(n, [&](std::int64_t i) { task(i); });
//     }});
#pragma once

#include <lowrank/cpu/isa.hpp>
#include <lowrank/error.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace lowrank::cpu {

/// One body of a parallel loop: a borrowed callable, valid until the loop returns. Never throws.
class Task {
public:
    template <class F>
    explicit Task(F& body) : body_(&body), call_([](void* f, std::int64_t i) { (*static_cast<F*>(f))(i); }) {}
    void operator()(std::int64_t i) const { call_(body_, i); }

private:
    void* body_;
    void (*call_)(void*, std::int64_t);
};

/// Calls `task(i)` once for each i in [0, count), in any order and on any threads, and returns when all are done.
/// Running them all on one thread is allowed.
using ParallelFor = std::function<void(std::int64_t count, Task task)>;

/// What happens to X W1 between the two products of a low-rank layer.
enum class Intermediate : std::uint8_t {
    automatic,  ///< as `full`, but rounded to bf16 where the bf16 dot product then runs both: see low_rank_linear.hpp
    full,       ///< always kept in float (double for double)
};

struct ContextOptions {
    int threads = 0;                ///< 0: all that OpenMP offers; with `parallel_for`, how many run at a time
    ParallelFor parallel_for = {};  ///< the host engine's own threads
    std::optional<Isa> isa = {};    ///< a level at or below the machine's
    Intermediate intermediate = Intermediate::automatic;
};

namespace detail {

// The two runners differ in type, so that translation units with and without OpenMP link into one program.
struct SerialRunner {
    static int default_threads() { return 1; }
    static void run(std::int64_t count, int /*threads*/, Task task) {
        for (std::int64_t i = 0; i < count; ++i) task(i);
    }
};

#ifdef _OPENMP
struct OpenMpRunner {
    static int default_threads() { return omp_get_max_threads(); }
    static void run(std::int64_t count, int threads, Task task) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (std::int64_t i = 0; i < count; ++i) task(i);
    }
};
using DefaultRunner = OpenMpRunner;
#else
using DefaultRunner = SerialRunner;
#endif

}  // namespace detail

class Context {
public:
    /// Throws ValueError for a negative thread count or a `parallel_for` without one, BackendError for a level that
    /// this machine does not have.
    template <class Runner = detail::DefaultRunner>
    explicit Context(ContextOptions options = {}, Runner /*runner*/ = {})
        : threads_(options.threads),
          intermediate_(options.intermediate),
          parallel_for_(std::move(options.parallel_for)),
          run_(&Runner::run) {
        if (threads_ < 0) throw ValueError("a context cannot have " + std::to_string(threads_) + " threads");
        if (threads_ == 0 && parallel_for_) {
            throw ValueError("a context with its own parallel_for also needs `threads`: how many tasks run at a time");
        }
        if (threads_ == 0) threads_ = Runner::default_threads();
        const Isa machine = detect_isa();
        isa_ = options.isa.value_or(machine);
        if (isa_ > machine) {
            throw BackendError(std::string("this machine has no ") + isa_name(isa_) +
                               " instructions; its highest level is " + isa_name(machine));
        }
    }

    [[nodiscard]] int threads() const { return threads_; }
    [[nodiscard]] Isa isa() const { return isa_; }
    [[nodiscard]] Intermediate intermediate() const { return intermediate_; }

    /// The same context on the caller's thread alone: for work inside a parallel loop.
    [[nodiscard]] Context serial() const {
        Context one(*this);
        one.threads_ = 1;
        return one;
    }

    /// Calls body(i) for each i in [0, count). Allocates nothing itself. If bodies throw, all indices are still run
    /// through and the exception of one of them is rethrown here.
    template <class F>
    void parallel_for(std::int64_t count, F&& body) const {
        if (threads_ == 1 || count <= 1) {
            for (std::int64_t i = 0; i < count; ++i) body(i);
            return;
        }
        std::exception_ptr error;
        std::atomic_flag failed;
        auto guarded = [&](std::int64_t i) {
            try {
                body(i);
            } catch (...) {
                if (!failed.test_and_set()) error = std::current_exception();
            }
        };
        if (parallel_for_) {
            parallel_for_(count, Task(guarded));
        } else {
            run_(count, static_cast<int>(count < threads_ ? count : threads_), Task(guarded));
        }
        if (error) std::rethrow_exception(error);
    }

private:
    int threads_;
    Isa isa_ = Isa::portable;
    Intermediate intermediate_;
    ParallelFor parallel_for_;
    void (*run_)(std::int64_t, int, Task);
};

}  // namespace lowrank::cpu
