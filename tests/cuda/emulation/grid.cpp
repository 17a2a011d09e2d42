#include "grid.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

namespace emulation {

namespace {

constexpr std::size_t kStack = 64 * 1024;
constexpr unsigned kWarp = 32;
Grid* running = nullptr;

}  // namespace

struct Grid::Fibre {
    ucontext_t context{};
    std::vector<std::byte> stack = std::vector<std::byte>(kStack);
    bool done = false;
    std::uint64_t barriers = 0;       // that it has come to
    std::uint64_t shuffles = 0;       // that it has given a value to
    std::uint64_t shuffles_read = 0;  // that it has taken one from
    float given = 0;
};

Grid::Grid(unsigned blocks, unsigned threads, std::size_t shared_bytes, std::function<void()> kernel, int order)
    : blocks_(blocks),
      threads_(threads),
      kernel_(std::move(kernel)),
      order_(order),
      shared_(blocks, std::vector<float>(shared_bytes / sizeof(float), std::numeric_limits<float>::quiet_NaN())) {
    for (unsigned i = 0; i < blocks * threads; ++i) fibres_.push_back(std::make_unique<Fibre>());
}

Grid::~Grid() = default;

Grid& Grid::current() {
    return *running;
}

float* Grid::shared() {
    return shared_[block().x].data();
}

void Grid::enter(unsigned low, unsigned high) {
    auto* grid = reinterpret_cast<Grid*>((static_cast<std::uintptr_t>(high) << 32U) | low);
    Fibre& fibre = *grid->fibres_[grid->self_];
    grid->kernel_();
    fibre.done = true;
    ++grid->steps_;
    swapcontext(&fibre.context, &grid->scheduler_);
}

void Grid::run() {
    running = this;
    const auto address = reinterpret_cast<std::uintptr_t>(this);
    for (auto& fibre : fibres_) {
        getcontext(&fibre->context);
        fibre->context.uc_stack.ss_sp = fibre->stack.data();
        fibre->context.uc_stack.ss_size = fibre->stack.size();
        makecontext(&fibre->context, reinterpret_cast<void (*)()>(&Grid::enter), 2, static_cast<unsigned>(address),
                    static_cast<unsigned>(address >> 32U));
    }
    const auto count = static_cast<unsigned>(fibres_.size());
    unsigned left = count;
    unsigned idle_rounds = 0;
    while (left > 0) {
        const std::uint64_t before = steps_;
        left = 0;
        for (unsigned i = 0; i < count; ++i) {
            self_ = order_ == 0 ? i : count - 1 - i;
            if (fibres_[self_]->done) continue;
            swapcontext(&scheduler_, &fibres_[self_]->context);
            if (!fibres_[self_]->done) ++left;
        }
        // Spinning on memory is no step; what all wait for must come within a few rounds.
        idle_rounds = steps_ == before ? idle_rounds + 1 : 0;
        if (left > 0 && idle_rounds > 4) throw std::logic_error("every thread of the grid waits for another");
    }
    running = nullptr;
}

void Grid::give_way() {
    swapcontext(&fibres_[self_]->context, &scheduler_);
}

template <class Ready>
void Grid::wait(const Ready& ready) {
    while (!ready()) give_way();
}

void Grid::block_barrier() {
    const unsigned first = block().x * threads_;
    const std::uint64_t mine = ++fibres_[self_]->barriers;
    ++steps_;
    wait([&] {
        return std::all_of(fibres_.begin() + first, fibres_.begin() + first + threads_,
                           [&](const auto& fibre) { return fibre->barriers >= mine; });
    });
}

float Grid::shuffle_down(float value, int offset, int width) {
    const unsigned first = self_ / kWarp * kWarp;
    const auto warp = [&](const auto& condition) {
        return std::all_of(fibres_.begin() + first, fibres_.begin() + first + kWarp, condition);
    };
    Fibre& me = *fibres_[self_];
    // Nobody gives the next value before all have taken the last one.
    const std::uint64_t last = me.shuffles;
    wait([&] { return warp([&](const auto& fibre) { return fibre->shuffles_read >= last; }); });
    me.given = value;
    const std::uint64_t mine = ++me.shuffles;
    ++steps_;
    wait([&] { return warp([&](const auto& fibre) { return fibre->shuffles >= mine; }); });
    const int lane = static_cast<int>(self_ - first);
    const int source = lane % width + offset < width ? lane + offset : lane;
    const float taken = fibres_[first + static_cast<unsigned>(source)]->given;
    ++me.shuffles_read;
    return taken;
}

}  // namespace emulation
