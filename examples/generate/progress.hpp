// generate - how far the work is: one line that is redrawn on a terminal, a line for every tenth elsewhere.
// SPDX-License-Identifier: MIT
#pragma once

#include "generation.hpp"

#include <cstdint>
#include <cstdio>
#include <string>

#include <unistd.h>

namespace engine {

class Progress {
public:
    explicit Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}

    /// `share` of the whole is done, above 0; `text` says what, and the time left is added.
    void show(double share, const std::string& text) {
        const auto tenth = static_cast<std::int64_t>(10 * share);
        const bool step = tenth != last_;
        last_ = tenth;
        if (quiet_ || (!terminal_ && !step)) return;
        drawn_ = true;
        const double left = watch_.seconds() * (1 - share) / share;
        std::fprintf(stderr, "%s%s, %.0f s left%s", terminal_ ? "\r\033[K" : "", text.c_str(), left,
                     terminal_ ? "" : "\n");
    }
    ~Progress() { clear(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Takes the line away.
    void clear() {
        if (drawn_ && terminal_) std::fputs("\r\033[K", stderr);
        drawn_ = false;
    }

private:
    bool quiet_;
    bool terminal_;
    bool drawn_ = false;
    std::int64_t last_ = 0;
    lowrank::Stopwatch watch_;
};

}  // namespace engine
