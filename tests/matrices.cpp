#include "matrices.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>

#include <algorithm>
#include <cmath>

namespace test {

Dense random_orthonormal(std::int64_t rows, std::int64_t cols, std::mt19937& random) {
    std::normal_distribution<double> normal;
    const Dense gaussian = Dense::NullaryExpr(rows, cols, [&] { return normal(random); });
    const Eigen::HouseholderQR<Dense> qr(gaussian);
    return qr.householderQ() * Dense::Identity(rows, cols);
}

Dense with_spectrum(std::int64_t rows, std::int64_t cols, const std::vector<double>& s, unsigned seed) {
    std::mt19937 random(seed);
    const auto k = static_cast<std::int64_t>(s.size());
    const Dense u = random_orthonormal(rows, k, random);
    const Dense v = random_orthonormal(cols, k, random);
    return u * Eigen::Map<const Eigen::VectorXd>(s.data(), k).asDiagonal() * v.transpose();
}

// The eigenvalues of [0 M; M^T 0] are the singular values, their negatives, and zeros (Jordan, Wielandt): as accurate
// as by Eigen's singular value decompositions, which take long to compile.
Eigen::VectorXd singular_values(const Dense& m) {
    Dense both = Dense::Zero(m.rows() + m.cols(), m.rows() + m.cols());
    both.topRightCorner(m.rows(), m.cols()) = m;
    both.bottomLeftCorner(m.cols(), m.rows()) = m.transpose();
    const Eigen::SelfAdjointEigenSolver<Dense> eigen(both, Eigen::EigenvaluesOnly);
    return eigen.eigenvalues().reverse().head(std::min(m.rows(), m.cols())).cwiseMax(0.0);
}

std::vector<double> spectrum(Spectrum kind, std::int64_t count, double condition) {
    std::mt19937 random(11);
    std::uniform_real_distribution<double> uniform;
    std::vector<double> s;
    for (std::int64_t i = 0; i < count; ++i) {
        const double t = count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0;
        switch (kind) {
            case Spectrum::even: s.push_back(1 - t * (1 - 1 / condition)); break;
            case Spectrum::geometric: s.push_back(std::pow(condition, -t)); break;
            case Spectrum::clustered: s.push_back(i + 1 < count ? 1 : 1 / condition); break;
            case Spectrum::one_large: s.push_back(i == 0 ? 1 : 1 / condition); break;
            case Spectrum::log_uniform: s.push_back(std::pow(condition, -uniform(random))); break;
            case Spectrum::flat: s.push_back(1); break;
            case Spectrum::power_law: s.push_back(1 / std::sqrt(static_cast<double>(i + 1))); break;
        }
    }
    std::sort(s.rbegin(), s.rend());
    return s;
}

double norm1(const Dense& m) {
    return m.size() == 0 ? 0 : m.cwiseAbs().colwise().sum().maxCoeff();
}

}  // namespace test
