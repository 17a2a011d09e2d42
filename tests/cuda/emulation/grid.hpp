// A grid of blocks of threads on one CPU thread, for kernels that are compiled as C++: each GPU thread is a fibre that
// gives way where it waits for others. Blocks are all resident, as in a cooperative launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ucontext.h>

namespace emulation {

struct Index {
    unsigned x = 0;
};

class Grid {
public:
    /// Calls `kernel` once for each thread. `order` = 1 runs the fibres backwards, so that an order nobody promised is
    /// not relied on.
    Grid(unsigned blocks, unsigned threads, std::size_t shared_bytes, std::function<void()> kernel, int order = 0);
    Grid(const Grid&) = delete;
    Grid& operator=(const Grid&) = delete;
    ~Grid();
    /// Throws std::logic_error if all threads wait and none can go on.
    void run();

    static Grid& current();
    [[nodiscard]] Index thread() const { return {self_ % threads_}; }
    [[nodiscard]] Index block() const { return {self_ / threads_}; }
    [[nodiscard]] Index threads() const { return {threads_}; }
    [[nodiscard]] Index blocks() const { return {blocks_}; }
    [[nodiscard]] float* shared();

    /// __syncthreads(): until all threads of the block have come to it as often.
    void block_barrier();
    /// __shfl_down_sync() with a full mask.
    float shuffle_down(float value, int offset, int width);
    /// Lets others run: inside a loop that waits for memory.
    void give_way();

private:
    struct Fibre;
    static void enter(unsigned low, unsigned high);
    template <class Ready>
    void wait(const Ready& ready);

    unsigned blocks_;
    unsigned threads_;
    std::function<void()> kernel_;
    int order_;
    std::vector<std::vector<float>> shared_;
    std::vector<std::unique_ptr<Fibre>> fibres_;
    ucontext_t scheduler_{};
    unsigned self_ = 0;
    std::uint64_t steps_ = 0;  // arrivals and exits: progress, for the watch on deadlocks
};

}  // namespace emulation
