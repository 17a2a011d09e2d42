// lowrank - the random starts of the fast decomposition, made once for all layers of a shape and kept on the device.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cuda/spaces.hpp>
#include <lowrank/cuda/vendor/runtime.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/random_entry.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace lowrank::cuda::detail {

template <ComputeScalar C>
class RandomBlocks {
public:
    /// n x columns, column-major: entries of mean 0 that depend on the seed, the place and nothing else. The reference
    /// holds until the next call.
    const Matrix<C, DeviceSpace>& get(std::int64_t n, std::int64_t columns, std::uint64_t seed, cudaStream_t stream) {
        for (const Entry& entry : entries_) {
            if (entry.seed == seed && entry.values.rows() == columns && entry.values.cols() == n) return entry.values;
        }
        Matrix<C> host(columns, n);
        for (std::int64_t j = 0; j < columns; ++j) {
            for (std::int64_t i = 0; i < n; ++i) {
                host(j, i) =
                    static_cast<C>(lowrank::detail::random_entry(seed, static_cast<std::uint64_t>(i * columns + j)));
            }
        }
        Entry entry{seed, Matrix<C, DeviceSpace>(columns, n)};
        const std::size_t bytes = entry.values.bytes();
        vendor::copy(entry.values.data(), bytes, host.data(), bytes, bytes, 1, stream, "copying a random start");
        vendor::synchronise(stream, "copying a random start");
        if (entries_.size() == kMost) entries_.erase(entries_.begin());
        entries_.push_back(std::move(entry));
        return entries_.back().values;
    }

private:
    static constexpr std::size_t kMost = 4;  // shapes that a model's selected layers have, as a rule
    struct Entry {
        std::uint64_t seed;
        Matrix<C, DeviceSpace> values;
    };
    std::vector<Entry> entries_;
};

}  // namespace lowrank::cuda::detail
