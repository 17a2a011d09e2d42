// lowrank - the full singular value decomposition by LAPACK's gesdd, for programs that link lowrank::lapack.
// SPDX-License-Identifier: MIT
//
// That target defines LOWRANK_USE_LAPACK, which all translation units of a program have to agree on. Several times as
// fast as Eigen's with a LAPACK that is tuned for the machine, such as OpenBLAS's, whose threads it then uses: equal
// factors for any number of them are no longer promised by Method::exact.
#pragma once

#include <lowrank/cpu/checked_svd.hpp>
#include <lowrank/cpu/svd_result.hpp>
#include <lowrank/matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

namespace lowrank::cpu::detail {

// With 32-bit integers, as LAPACK's packages have; the last argument is the length of `job`, as Fortran passes it.
extern "C" void sgesdd_(const char* job, const int* m, const int* n, float* a, const int* lda, float* s, float* u,
                        const int* ldu, float* vt, const int* ldvt, float* work, const int* lwork, int* iwork,
                        int* info, std::size_t job_length);
extern "C" void dgesdd_(const char* job, const int* m, const int* n, double* a, const int* lda, double* s, double* u,
                        const int* ldu, double* vt, const int* ldvt, double* work, const int* lwork, int* iwork,
                        int* info, std::size_t job_length);

/// Not if the work space of a matrix this large, some 4 cols^2 entries, has no size that an int holds (from about
/// 20,000 columns on).
template <class T>
bool gesdd(EigenMatrix<T> a, ThinSvd<T>& result) {
    const auto call = [] {
        if constexpr (std::is_same_v<T, float>)
            return sgesdd_;
        else
            return dgesdd_;
    }();
    constexpr std::int64_t kMost = std::numeric_limits<int>::max();
    if (a.rows() > kMost || 6 * a.cols() * a.cols() > kMost) return false;
    const int m = static_cast<int>(a.rows());
    const int n = static_cast<int>(a.cols());
    EigenMatrix<T> vt(n, n);
    result.u.resize(m, n);
    result.s.resize(static_cast<std::size_t>(n));
    std::vector<int> integers(8 * result.s.size());
    int info = 0;
    T size = 0;
    const int query = -1;
    call("S", &m, &n, a.data(), &m, result.s.data(), result.u.data(), &m, vt.data(), &n, &size, &query, integers.data(),
         &info, 1);
    // A float holds the size rounded; newer versions round it up themselves (LAPACK 3.10, sroundup_lwork).
    const double wanted = static_cast<double>(size) * (1 + 1e-6);
    if (info != 0 || !(wanted < static_cast<double>(kMost))) return false;
    std::vector<T> work(static_cast<std::size_t>(wanted) + 1);
    const int length = static_cast<int>(work.size());
    call("S", &m, &n, a.data(), &m, result.s.data(), result.u.data(), &m, vt.data(), &n, work.data(), &length,
         integers.data(), &info, 1);
    if (info != 0) return false;
    result.v = vt.transpose();
    return true;
}

/// Every singular value and vector of A, which must be finite, to working accuracy. Nothing if it does not converge.
template <ComputeScalar T>
std::optional<Svd<T>> lapack_svd(MatrixView<const T> a) {
    return checked_svd<T>(a, gesdd<T>);
}

}  // namespace lowrank::cpu::detail
