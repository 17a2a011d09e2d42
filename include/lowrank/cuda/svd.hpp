// lowrank - the full singular value decomposition on the device, by cuSOLVER, checked before it is believed.
// SPDX-License-Identifier: MIT
//
// Xgesvdp (polar decomposition and a symmetric eigensolver; the fastest) first, then gesvdj (Jacobi), then Xgesvd (QR).
// A result counts only if `info` is 0, the perturbation that Xgesvdp reports is rounding, and probes find
// A = U diag(s) V^T with orthonormal U and V: NaN factors with a good `info` have been seen.
#pragma once

#include <lowrank/cuda/context.hpp>
#include <lowrank/cuda/scratch.hpp>
#include <lowrank/cuda/vendor/blas.hpp>
#include <lowrank/cuda/vendor/solver.hpp>
#include <lowrank/error.hpp>
#include <lowrank/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace lowrank::cuda::detail {

inline constexpr std::int64_t kProbes = 3;

/// Where a decomposition of a tall m x n matrix works. `a` is overwritten, `tall` never.
template <ComputeScalar C>
struct SvdMemory {
    std::int64_t m = 0;
    std::int64_t n = 0;
    Slot<C> tall;
    Slot<C> a;
    Slot<C> u;  // m x n
    Slot<C> v;  // n x n
    Slot<C> s;
    Slot<C> probe;  // max(m, n) x kProbes, thrice
    Slot<int> info;
    Slot<std::byte> workspace;  // of Xgesvdp, which nearly always does
    vendor::SolverWorkspace workspace_bytes;

    /// `tall_matrix` and `spare` hold rows x cols entries each, rows >= cols.
    SvdMemory(Context& context, Scratch& scratch, std::int64_t rows, std::int64_t cols, Slot<C> tall_matrix,
              Slot<C> spare, const std::string& name)
        : m(rows),
          n(cols),
          tall(tall_matrix),
          a(spare),
          u(scratch.add<C>(m * n)),
          v(scratch.add<C>(n * n)),
          s(scratch.add<C>(n)),
          probe(scratch.add<C>(3 * m * kProbes)),
          info(scratch.add<int>(1)),
          workspace_bytes(
              vendor::gesvdp_workspace<C>(context.solver(), context.solver_parameters(), {.m = m, .n = n}, name)) {
        workspace = scratch.add<std::byte>(static_cast<std::int64_t>(workspace_bytes.device));
    }
};

/// Is tall = U diag(s) V^T with orthonormal U and V, up to rounding? Probes with vectors of pseudo-random signs
/// (Freivalds 1979), like the CPU's check. O(m n). Waits.
template <ComputeScalar C>
bool is_decomposition(Context& context, const Scratch& scratch, const SvdMemory<C>& memory, const std::vector<C>& s,
                      const std::string& name) {
    const std::int64_t m = memory.m;
    const std::int64_t n = memory.n;
    // LAPACK accepts a residual of 50 n ulp |A|; a failed solver is off by many orders of magnitude more.
    const C allowed = 50 * static_cast<C>(m) * std::numeric_limits<C>::epsilon();
    const auto near = [&](C x, C y, C scale) { return is_finite(x) && std::abs(x - y) <= allowed * scale; };
    C s_squared = 0;
    for (std::size_t i = 0; i < s.size(); ++i) {
        if (!is_finite(s[i]) || s[i] < 0 || (i > 0 && s[i] > s[i - 1])) return false;
        s_squared += s[i] * s[i];
    }
    const C* tall = scratch.at(memory.tall);
    const C* u = scratch.at(memory.u);
    const C* v = scratch.at(memory.v);
    const C tall_norm = vendor::norm(context.blas(), m * n, tall, name);
    if (!near(std::sqrt(s_squared), tall_norm, tall_norm)) return false;

    std::vector<C> signs(static_cast<std::size_t>(n * kProbes));
    std::uint32_t state = 1;
    for (C& sign : signs) {
        state = state * 1664525U + 1013904223U;
        sign = (state >> 31U) == 0 ? C(1) : C(-1);
    }
    C* probes = scratch.at(memory.probe);
    C* first = probes + m * kProbes;
    C* second = first + m * kProbes;
    const auto product = [&](const C* matrix, std::int64_t rows, bool transposed, C* result) {
        vendor::gemm<C>(context.blas(), rows, kProbes, n, 1, {matrix, transposed ? n : rows, transposed}, {probes, n},
                        0, result, rows, name);
    };
    const auto fetch = [&](const C* from, std::int64_t rows) {
        std::vector<C> values(static_cast<std::size_t>(rows * kProbes));
        download(context, from, rows * kProbes, values.data());
        return values;
    };
    const auto norm = [](const std::vector<C>& values, std::int64_t column, std::int64_t rows) {
        C sum = 0;
        for (std::int64_t i = 0; i < rows; ++i) {
            const C x = values[static_cast<std::size_t>(column * rows + i)];
            sum += x * x;
        }
        return std::sqrt(sum);
    };

    upload(context, signs.data(), n * kProbes, probes);
    const C length = std::sqrt(static_cast<C>(n));
    product(u, m, false, first);
    product(v, n, false, second);
    const std::vector<C> u_probes = fetch(first, m);
    const std::vector<C> v_probes = fetch(second, n);
    product(tall, m, false, first);
    product(v, n, true, second);
    std::vector<C> coefficients = fetch(second, n);  // of the probes in the right singular vectors
    for (std::int64_t i = 0; i < n * kProbes; ++i) {
        coefficients[static_cast<std::size_t>(i)] *= s[static_cast<std::size_t>(i % n)];
    }
    upload(context, coefficients.data(), n * kProbes, probes);
    product(u, m, false, second);
    std::vector<C> residual = fetch(first, m);
    const std::vector<C> rebuilt = fetch(second, m);
    for (std::size_t i = 0; i < residual.size(); ++i) residual[i] -= rebuilt[i];
    for (std::int64_t probe = 0; probe < kProbes; ++probe) {
        if (!near(norm(u_probes, probe, m), length, length) || !near(norm(v_probes, probe, n), length, length) ||
            !near(norm(residual, probe, m), 0, tall_norm * length)) {
            return false;
        }
    }
    return true;
}

/// The singular values of `tall`, descending, with U (m x n) and V (n x n), column-major, in `memory`. Throws
/// BackendError if no solver's result passes. `shape` is the weight's, for messages.
template <ComputeScalar C>
std::vector<C> full_svd(Context& context, const Scratch& scratch, const SvdMemory<C>& memory, const std::string& name,
                        const std::string& shape) {
    const std::int64_t m = memory.m;
    const std::int64_t n = memory.n;
    const vendor::SvdProblem<C> problem{.m = m,
                                        .n = n,
                                        .a = scratch.at(memory.a),
                                        .s = scratch.at(memory.s),
                                        .u = scratch.at(memory.u),
                                        .v = scratch.at(memory.v),
                                        .info = scratch.at(memory.info)};
    std::string failures;
    std::vector<C> s(static_cast<std::size_t>(n));
    double perturbation = 0;
    std::vector<std::byte> host(memory.workspace_bytes.host);
    const SettleOnError settle(context);
    const auto start = [&] {
        vendor::copy_scaled<C>(context.blas(), m, n, 1, {scratch.at(memory.tall), m}, problem.a, m, name);
    };
    const auto accepted = [&](const char* routine) {
        int info = 0;
        download(context, problem.info, 1, &info);
        std::string failure;
        if (info < 0) {
            failure = "refused its argument " + std::to_string(-info);
        } else if (info > 0) {
            failure = "did not converge (info " + std::to_string(info) + ")";
        } else {
            download(context, problem.s, n, s.data());
            const double rounding =
                50 * static_cast<double>(n) * static_cast<double>(std::numeric_limits<C>::epsilon());
            if (!(perturbation <= rounding * static_cast<double>(s[0]))) {
                failure = "perturbed the singular values by " + std::to_string(perturbation);
            } else if (!is_decomposition(context, scratch, memory, s, name)) {
                failure = "gave factors that do not multiply to the weight";
            }
        }
        if (!failure.empty()) failures += std::string(failures.empty() ? "" : "; ") + routine + " " + failure;
        return failure.empty();
    };

    start();
    vendor::gesvdp(context.solver(), context.solver_parameters(), problem, scratch.at(memory.workspace), host,
                   memory.workspace_bytes, &perturbation, name);
    if (accepted("Xgesvdp")) return s;
    perturbation = 0;

    // The others' workspaces are rarely needed, so they are not kept.
    if (m <= std::numeric_limits<int>::max()) {
        const vendor::JacobiParameters jacobi = vendor::make_jacobi_parameters();
        const int elements = vendor::gesvdj_workspace(context.solver(), jacobi.get(), problem, name);
        Matrix<C, DeviceSpace> workspace(1, elements);
        start();
        vendor::gesvdj(context.solver(), jacobi.get(), problem, workspace.data(), elements, name);
        if (accepted("gesvdj")) return s;
    }
    const vendor::SolverWorkspace bytes =
        vendor::gesvd_workspace(context.solver(), context.solver_parameters(), problem, name);
    Matrix<std::byte, DeviceSpace> workspace(1, static_cast<std::int64_t>(bytes.device));
    host.assign(bytes.host, std::byte{0});
    start();
    vendor::gesvd(context.solver(), context.solver_parameters(), problem, workspace.data(), host, bytes, name);
    vendor::copy_scaled<C>(context.blas(), n, n, 1, {problem.v, n, true}, problem.a, n, name);  // V^T to V
    vendor::copy_scaled<C>(context.blas(), n, n, 1, {problem.a, n}, problem.v, n, name);
    if (accepted("Xgesvd")) return s;
    throw BackendError("the singular value decomposition of " + name + ", " + shape +
                       ", failed on the device: " + failures);
}

}  // namespace lowrank::cuda::detail
