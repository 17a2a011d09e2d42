// The forward path's independent reference: sums in a wider type, and a bound on what the library's may differ by.
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/scalar.hpp>

#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

namespace test {

/// Every instruction-set level that this machine has.
inline std::vector<lowrank::cpu::Isa> levels() {
    std::vector<lowrank::cpu::Isa> all;
    for (const auto isa : lowrank::cpu::kEveryIsa) {
        if (isa <= lowrank::cpu::detect_isa()) all.push_back(isa);
    }
    return all;
}

template <class T>
lowrank::Matrix<T> gaussian(std::int64_t rows, std::int64_t cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    lowrank::Matrix<T> matrix(rows, cols);
    for (T* x = matrix.data(); x != matrix.data() + matrix.size(); ++x) *x = static_cast<T>(normal(random));
    return matrix;
}

/// Unit roundoff: half the distance from 1 to the next number.
template <class T>
double roundoff() {
    if constexpr (std::is_same_v<T, lowrank::bf16>) return 0x1p-8;
    if constexpr (std::is_same_v<T, lowrank::f16>) return 0x1p-11;
    if constexpr (std::is_same_v<T, float>) return 0x1p-24;
    return 0x1p-53;
}

/// What X W1 is rounded to between the products, if to anything.
enum class Rounded : bool { no, to_bf16 };

/// Y = (X W1) W2 + b for every row of X, exactly but for the roundoff of a wider type, with what a bound needs.
class ForwardReference {
public:
    using Wide = long double;

    /// `w2` null: Y = X W1 + b. `bias` may be empty.
    template <class T, class C>
    ForwardReference(const lowrank::Matrix<T>& x, const lowrank::Matrix<T>& w1, const lowrank::Matrix<T>* w2,
                     const std::vector<C>& bias)
        : cols_(w2 == nullptr ? w1.cols() : w2->cols()) {
        // double is wide enough a type for all others, and much faster than long double.
        using Sum = std::conditional_t<std::is_same_v<T, double>, long double, double>;
        const auto [middle, size] = product(widened<Sum>(x), absolute(widened<Sum>(x)), w1);
        const double terms = static_cast<double>(w1.rows() + (w2 == nullptr ? 0 : w2->rows()) + 2);
        const double nu = terms * roundoff<lowrank::compute_t<T>>();
        gamma_ = nu / (1 - nu);
        if (w2 == nullptr) {
            take(middle, size, {}, bias);
        } else {
            const auto [y, y_size] = product(middle, size, *w2);
            take(y, y_size, product(middle, absolute(middle), *w2).second, bias);
        }
    }

    /// How many entries of Y, the result for the first rows of X, lie outside the bound; NaN counts.
    ///
    /// K and r terms summed in any order in a type of roundoff u err by at most gamma_(K + r + 2) times the same sums
    /// over absolute values, gamma_n = n u / (1 - n u) (Higham 2002, section 3.5). A rounded intermediate m adds u'
    /// |m| |W2|, with m itself known to the first bound. Then the result is rounded once to Out.
    template <class Out>
    std::int64_t outside(lowrank::MatrixView<Out> y, Rounded rounded = Rounded::no) const {
        std::int64_t count = 0;
        for (std::int64_t i = 0; i < y.rows(); ++i) {
            for (std::int64_t j = 0; j < cols_; ++j) {
                const std::size_t at = static_cast<std::size_t>(i * cols_ + j);
                Wide bound = gamma_ * size_[at];
                if (rounded == Rounded::to_bf16) bound += roundoff<lowrank::bf16>() * (middle_size_[at] + bound);
                bound += roundoff<Out>() * (std::abs(exact_[at]) + bound);
                const Wide error = std::abs(static_cast<Wide>(static_cast<double>(y(i, j))) - exact_[at]);
                if (!(error <= bound)) ++count;
            }
        }
        return count;
    }

private:
    template <class Sum>
    using Rows = std::vector<std::vector<Sum>>;

    template <class Sum, class T>
    static Rows<Sum> widened(const lowrank::Matrix<T>& m) {
        Rows<Sum> rows(static_cast<std::size_t>(m.rows()));
        for (std::int64_t i = 0; i < m.rows(); ++i) {
            for (std::int64_t j = 0; j < m.cols(); ++j) {
                rows[static_cast<std::size_t>(i)].push_back(static_cast<Sum>(static_cast<double>(m(i, j))));
            }
        }
        return rows;
    }
    template <class Sum>
    static Rows<Sum> absolute(Rows<Sum> rows) {
        for (auto& row : rows) {
            for (Sum& entry : row) entry = std::abs(entry);
        }
        return rows;
    }

    /// a w and size |w|.
    template <class Sum, class T>
    static std::pair<Rows<Sum>, Rows<Sum>> product(const Rows<Sum>& a, const Rows<Sum>& size,
                                                   const lowrank::Matrix<T>& w) {
        const Rows<Sum> wide = widened<Sum>(w);
        const Rows<Sum> zero(a.size(), std::vector<Sum>(static_cast<std::size_t>(w.cols())));
        std::pair<Rows<Sum>, Rows<Sum>> sums(zero, zero);
        for (std::size_t i = 0; i < a.size(); ++i) {
            for (std::size_t k = 0; k < wide.size(); ++k) {
                for (std::size_t j = 0; j < zero[i].size(); ++j) {
                    sums.first[i][j] += a[i][k] * wide[k][j];
                    sums.second[i][j] += size[i][k] * std::abs(wide[k][j]);
                }
            }
        }
        return sums;
    }

    template <class Sums, class C>
    void take(const Sums& exact, const Sums& size, const Sums& middle_size, const std::vector<C>& bias) {
        for (std::size_t i = 0; i < exact.size(); ++i) {
            for (std::size_t j = 0; j < exact[i].size(); ++j) {
                const Wide b = bias.empty() ? 0 : static_cast<Wide>(bias[j]);
                exact_.push_back(exact[i][j] + b);
                size_.push_back(size[i][j] + std::abs(b));
                middle_size_.push_back(middle_size.empty() ? 0 : middle_size[i][j]);
            }
        }
    }

    std::int64_t cols_;
    double gamma_ = 0;
    std::vector<Wide> exact_, size_, middle_size_;  ///< |X| |W1| |W2| + |b| and |X W1| |W2|
};

}  // namespace test
