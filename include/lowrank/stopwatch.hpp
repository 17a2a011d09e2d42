// lowrank - how long something has taken.
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

namespace lowrank {

/// Seconds of wall-clock time since it was made.
class Stopwatch {
public:
    [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point start_ = Clock::now();
};

}  // namespace lowrank
