// lowrank - the CUDA context: the stream and the library handles that operations run on.
// SPDX-License-Identifier: MIT
//
// One context per thread; layers may be shared by contexts. It works on the device that is current when it is made,
// which must be current whenever it is used. The host engine's stream and handles can be borrowed: a borrowed handle
// must already be on the stream, and nothing about it is changed.
//
//     lowrank::cuda::Context gpu;                                                // its own stream and handles
//     lowrank::cuda::Context mine({.stream = stream, .blas = blas, .solver = solver});
#pragma once

#include <lowrank/cuda/random_blocks.hpp>
#include <lowrank/cuda/spaces.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/vendor/blas_lt.hpp>
#include <lowrank/cuda/vendor/runtime.hpp>
#include <lowrank/cuda/vendor/solver.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string_view>
#include <tuple>
#include <unordered_map>

namespace lowrank::cuda {

struct ContextOptions {
    std::optional<cudaStream_t> stream = {};  ///< the host engine's; without one the context makes its own
    cublasHandle_t blas = nullptr;
    cublasLtHandle_t blas_lt = nullptr;
    cusolverDnHandle_t solver = nullptr;
    std::size_t matmul_workspace_bytes = 0;  ///< what a product of forward() may take; 0: 32 MiB from Hopper on, else 4
};

class Context {
public:
    /// Throws DeviceError if there is no driver, no device, or a library does not start; ValueError for a borrowed
    /// handle that is on another stream.
    explicit Context(const ContextOptions& options = {})
        : device_(vendor::current_device()),
          stream_(options.stream ? vendor::Stream::borrow(*options.stream) : vendor::make_stream()),
          blas_(options.blas != nullptr ? vendor::borrow_blas(options.blas, stream()) : vendor::make_blas(stream())),
          blas_lt_(options.blas_lt != nullptr ? vendor::BlasLt::borrow(options.blas_lt) : vendor::make_blas_lt()),
          solver_(options.solver != nullptr ? vendor::borrow_solver(options.solver, stream())
                                            : vendor::make_solver(stream())),
          solver_parameters_(vendor::make_solver_parameters()),
          matmul_workspace_bytes_(options.matmul_workspace_bytes) {
        // cuBLAS's own sizes: its documentation recommends 32 MiB for Hopper and 4 MiB before.
        if (matmul_workspace_bytes_ == 0) {
            matmul_workspace_bytes_ = std::size_t{device_.compute_capability >= 90 ? 32U : 4U} << 20U;
        }
        constexpr std::size_t kStep = vendor::kWorkspaceAlignment;
        matmul_workspace_bytes_ = (matmul_workspace_bytes_ + kStep - 1) / kStep * kStep;
    }
    explicit Context(cudaStream_t stream) : Context(ContextOptions{.stream = stream}) {}

    Context(Context&&) noexcept = default;
    Context& operator=(Context&&) = delete;
    /// Waits for its work: scratch memory and handles may be in use.
    ~Context() {
        if (blas_.get() != nullptr) static_cast<void>(cudaStreamSynchronize(stream()));
    }

    [[nodiscard]] const vendor::Device& device() const { return device_; }
    [[nodiscard]] cudaStream_t stream() const { return stream_.get(); }
    [[nodiscard]] cublasHandle_t blas() const { return blas_.get(); }
    [[nodiscard]] cublasLtHandle_t blas_lt() const { return blas_lt_.get(); }
    [[nodiscard]] cusolverDnHandle_t solver() const { return solver_.get(); }
    [[nodiscard]] cusolverDnParams_t solver_parameters() const { return solver_parameters_.get(); }
    [[nodiscard]] std::size_t matmul_workspace_bytes() const { return matmul_workspace_bytes_; }
    /// For reports: threads of the CPU that work for this context.
    [[nodiscard]] int threads() const { return 1; }

    /// Waits until all that was queued is done; an error of that work is thrown here.
    void synchronise(std::string_view doing = "waiting for the stream") { vendor::synchronise(stream(), doing); }

    /// Scratch memory of the decompositions, kept for the next one.
    [[nodiscard]] Workspace& scratch() { return scratch_; }

    /// A random start of the fast decomposition, kept for the next layer of the shape.
    template <ComputeScalar C>
    const Matrix<C, DeviceSpace>& random_block(std::int64_t n, std::int64_t columns, std::uint64_t seed) {
        return std::get<detail::RandomBlocks<C>>(random_blocks_).get(n, columns, seed, stream());
    }

    /// The plan for a product, made at its first use.
    vendor::ProductPlan& plan(const vendor::ProductKey& key, std::string_view doing) {
        const auto found = plans_.find(key);
        if (found != plans_.end()) return found->second;
        return plans_
            .try_emplace(key, blas_lt(), key, matmul_workspace_bytes_, doing)  // nothing is kept if it throws
            .first->second;
    }

private:
    struct KeyHash {
        std::size_t operator()(const vendor::ProductKey& key) const noexcept {
            std::size_t hash = 0;
            for (const std::int64_t part : {key.m, key.n, key.k, std::int64_t{key.in} * 64 + key.out,
                                            std::int64_t{key.bias} * 2 + std::int64_t{key.aligned}}) {
                hash = hash * 0x9e3779b97f4a7c15U + std::hash<std::int64_t>()(part);
            }
            return hash;
        }
    };

    // Destroyed in the reverse order: handles before their stream.
    vendor::Device device_;
    vendor::Stream stream_;
    vendor::Blas blas_;
    vendor::BlasLt blas_lt_;
    vendor::Solver solver_;
    vendor::SolverParameters solver_parameters_;
    std::size_t matmul_workspace_bytes_;
    Workspace scratch_;
    std::tuple<detail::RandomBlocks<float>, detail::RandomBlocks<double>> random_blocks_;
    std::unordered_map<vendor::ProductKey, vendor::ProductPlan, KeyHash> plans_;
};

namespace detail {

/// Waits for the stream while an error leaves a scope: host memory declared before this object is then no longer in use
/// by work that was queued.
class SettleOnError {
public:
    explicit SettleOnError(const Context& context) : stream_(context.stream()), before_(std::uncaught_exceptions()) {}
    SettleOnError(const SettleOnError&) = delete;
    SettleOnError& operator=(const SettleOnError&) = delete;
    ~SettleOnError() {
        if (std::uncaught_exceptions() > before_) static_cast<void>(cudaStreamSynchronize(stream_));
    }

private:
    cudaStream_t stream_;
    int before_;
};

}  // namespace detail

}  // namespace lowrank::cuda
