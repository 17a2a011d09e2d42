// lowrank - waiting for a count of finished chunks.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/kernels/target.hpp>

#include <atomic>
#include <cstdint>
#include <thread>

namespace lowrank::cpu::detail {

/// Returns when `count` has reached `target`, after which all that was done before its increments is visible.
/// Yields after about 20 us, so that the thread it waits for gets a core where there are fewer than threads.
inline void wait_for(const std::atomic<std::int64_t>& count, std::int64_t target) {
    for (int spins = 0; count.load(std::memory_order_acquire) < target; ++spins) {
        if (spins < 512) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

}  // namespace lowrank::cpu::detail
