#include "matrices.hpp"

#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

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

// One-sided Jacobi (Hestenes 1958): Eigen's solvers would take a minute to compile.
Eigen::VectorXd singular_values(const Dense& m) {
    Dense a = m.rows() >= m.cols() ? m : Dense(m.transpose());
    constexpr double kUlp = std::numeric_limits<double>::epsilon();
    constexpr int kMostSweeps = 40;  // ten are usual
    bool rotated = true;
    for (int sweep = 0; rotated && sweep < kMostSweeps; ++sweep) {
        rotated = false;
        for (Eigen::Index q = 1; q < a.cols(); ++q) {
            for (Eigen::Index p = 0; p < q; ++p) {
                const double product = a.col(p).dot(a.col(q));
                const double square_p = a.col(p).squaredNorm();
                const double square_q = a.col(q).squaredNorm();
                if (!(std::abs(product) > kUlp * std::sqrt(square_p * square_q))) continue;
                rotated = true;
                const double zeta = (square_q - square_p) / (2 * product);
                const double t = std::copysign(1 / (std::abs(zeta) + std::sqrt(1 + zeta * zeta)), zeta);
                const double c = 1 / std::sqrt(1 + t * t);
                for (Eigen::Index i = 0; i < a.rows(); ++i) {
                    const double x = a(i, p);
                    const double y = a(i, q);
                    a(i, p) = c * (x - t * y);
                    a(i, q) = c * (t * x + y);
                }
            }
        }
    }
    Eigen::VectorXd s = a.colwise().norm().transpose();
    std::sort(s.data(), s.data() + s.size(), std::greater<>());
    return s;
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
