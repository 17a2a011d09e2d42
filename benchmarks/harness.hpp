// What every benchmark shares: contenders that take turns, medians, and the results as JSON.
// SPDX-License-Identifier: MIT
//
// Machines drift (other tenants, turbo clocks), so contenders are never measured one after the other: in each round
// every one of them runs for a short while, and a contender's figure is the median over all rounds.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double median(std::vector<double> values) {
    if (values.empty()) throw std::logic_error("the median of nothing");
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

/// One implementation of a case. `sample(seconds)` runs it for about that long, once at least, and returns the duration
/// of each call.
struct Contender {
    std::string name;
    std::function<std::vector<double>(double seconds)> sample;
};

/// Calls `call(i)`, i = 0, 1, ..., for about `seconds`.
template <class Call>
std::vector<double> time_calls(double seconds, std::size_t& i, const Call& call) {
    std::vector<double> times;
    const double end = now() + seconds;
    do {
        const double begin = now();
        call(i++);
        times.push_back(now() - begin);
    } while (now() < end);
    return times;
}

struct Protocol {
    int rounds = 7;
    double visit_seconds = 0.01;   ///< of one contender in one round
    double most_seconds = 6;       ///< of a case, after which three rounds must do
    double pause_seconds = 0.002;  ///< after each: the threads of one library may spin for a while when it is done
};

/// The median duration of a call of each, in order; the first round warms up and does not count.
inline std::vector<double> run_interleaved(const std::vector<Contender>& contenders, const Protocol& protocol) {
    std::vector<std::vector<double>> times(contenders.size());
    const double begin = now();
    for (int round = 0; round <= protocol.rounds; ++round) {
        if (round > 3 && now() - begin > protocol.most_seconds) break;
        for (std::size_t i = 0; i < contenders.size(); ++i) {
            const std::vector<double> visit = contenders[i].sample(round == 0 ? 0 : protocol.visit_seconds);
            if (round > 0) times[i].insert(times[i].end(), visit.begin(), visit.end());
            std::this_thread::sleep_for(std::chrono::duration<double>(protocol.pause_seconds));
        }
    }
    std::vector<double> medians;
    for (std::vector<double>& all : times) medians.push_back(median(std::move(all)));
    return medians;
}

inline void write_json(const std::string& path, const nlohmann::ordered_json& document) {
    std::ofstream file(path);
    file << document.dump(1) << '\n';
    file.close();
    if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace bench
