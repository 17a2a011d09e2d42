// lowrank - the factors of all layers at their highest rank, on disk, and their spectra, in memory.
// SPDX-License-Identifier: MIT
//
// The leading r columns of W1 and rows of W2 are the factors of rank r, so one decomposition of each layer serves any
// split of a budget. The store takes as much disk as the layers' weights do, and disappears with the program.
#pragma once

#include <lowrank/allocate.hpp>
#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/factor_tensors.hpp>
#include <lowrank/checkpoint/scratch_file.hpp>
#include <lowrank/cpu/decompose_calibrated.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// What is known of one layer's decomposition.
struct StoredLayer {
    std::vector<double> spectrum;  ///< leading singular values of the weighted weight
    double weighted_norm = 0;
    Method method = Method::exact;
    double seconds = 0;
    std::uint64_t input_factor = 0;   ///< where W1^T begins, rank by rank
    std::uint64_t output_factor = 0;  ///< where W2 begins

    /// As it competes for parameters; borrows the spectrum.
    [[nodiscard]] AllocationLayer competitor(std::int64_t d_in, std::int64_t d_out) const {
        return {.d_in = d_in, .d_out = d_out, .spectrum = spectrum, .squared_norm = weighted_norm * weighted_norm};
    }
};

class FactorStore {
public:
    /// Keeps its data in an unnamed file in `folder`. Throws IoError.
    explicit FactorStore(const std::filesystem::path& folder) : file_(std::make_unique<ScratchFile>(folder)) {}

    /// Takes a layer's factors, rounded to its weight's type T. Throws IoError, or ValueError beginning with `subject`
    /// if an entry overflows T.
    template <Scalar T, ComputeScalar C>
    void put(const std::string& module, const CalibratedFactors<C>& factors, double seconds,
             const std::string& subject) {
        StoredLayer layer{factors.spectrum, factors.weighted_norm, factors.method, seconds};
        const auto append = [&](const Matrix<T>& rounded) {
            return file_->append(std::as_bytes(std::span(rounded.data(), rounded.size())));
        };
        layer.input_factor = append(detail::transposed_as<T>(factors.w1.view(), subject));
        layer.output_factor = append(detail::rounded_as<T>(factors.w2.view(), subject));
        layers_.insert_or_assign(module, std::move(layer));
    }

    /// Null if it was never put.
    [[nodiscard]] const StoredLayer* find(const std::string& module) const {
        const auto found = layers_.find(module);
        return found == layers_.end() ? nullptr : &found->second;
    }

    /// W1^T (rank x d_in) and W2 (rank x d_out) of the leading ranks. Throws IoError.
    template <Scalar T>
    [[nodiscard]] Matrix<T> input_factor(const StoredLayer& layer, std::int64_t rank, std::int64_t d_in) const {
        return read<T>(layer.input_factor, rank, d_in);
    }
    template <Scalar T>
    [[nodiscard]] Matrix<T> output_factor(const StoredLayer& layer, std::int64_t rank, std::int64_t d_out) const {
        return read<T>(layer.output_factor, rank, d_out);
    }

private:
    template <Scalar T>
    [[nodiscard]] Matrix<T> read(std::uint64_t offset, std::int64_t rows, std::int64_t cols) const {
        Matrix<T> result(rows, cols);
        file_->read(offset, std::as_writable_bytes(std::span(result.data(), result.size())));
        return result;
    }

    std::unique_ptr<ScratchFile> file_;
    std::map<std::string, StoredLayer> layers_;
};

}  // namespace lowrank
