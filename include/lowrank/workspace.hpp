// lowrank - Workspace: scratch memory that grows to what is asked of it and is then reused.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <lowrank/matrix.hpp>

namespace lowrank {

/// Owned by the caller, one per thread. Grows, never shrinks; contents are undefined between uses.
class Workspace {
public:
    Workspace() = default;
    explicit Workspace(std::size_t bytes) { static_cast<void>(reserve(bytes)); }

    /// At least `bytes` bytes, aligned to a cache line. Allocates only if it has to grow.
    std::span<std::byte> reserve(std::size_t bytes) {
        if (memory_.size() < bytes) {
            memory_ = {};  // give the old memory back before asking for more
            memory_ = Matrix<std::byte>(1, static_cast<std::int64_t>(bytes));
        }
        return {memory_.data(), memory_.size()};
    }
    [[nodiscard]] std::size_t size() const { return memory_.size(); }

private:
    Matrix<std::byte> memory_;
};

}  // namespace lowrank
