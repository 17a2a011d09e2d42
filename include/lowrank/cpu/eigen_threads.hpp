// lowrank - Eigen on one thread, for as long as an object lives.
// SPDX-License-Identifier: MIT
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace lowrank::cpu::detail {

/// Eigen's products split their sums differently for different thread counts; one thread while this lives keeps the
/// factors the same. The setting belongs to the calling thread, so no other thread notices.
class OneEigenThread {
public:
#ifdef _OPENMP
    OneEigenThread() : before_(omp_get_max_threads()) {
        omp_set_num_threads(1);
    }
    ~OneEigenThread() {
        omp_set_num_threads(before_);
    }

private:
    int before_;

public:
#else
    OneEigenThread() = default;
    ~OneEigenThread() = default;
#endif
    OneEigenThread(const OneEigenThread&) = delete;
    OneEigenThread& operator=(const OneEigenThread&) = delete;
};

}  // namespace lowrank::cpu::detail
