// generate - Ctrl-C asks the work to stop at its next step; a second one ends the program at once.
// SPDX-License-Identifier: MIT
#pragma once

#include <command_line/standard_streams.hpp>

#include <csignal>

namespace engine {

namespace detail {
inline volatile std::sig_atomic_t interruption = 0;
}

/// While it lives, SIGINT and SIGTERM are noted. The shell's exit status for one is 128 + its number.
class Interruption {
public:
    static constexpr int kShellStatus = 128;

    Interruption() {
        struct sigaction action {};
        action.sa_handler = [](int signal) { detail::interruption = signal; };
        action.sa_flags = static_cast<int>(SA_RESETHAND);
        for (const int signal : {SIGINT, SIGTERM}) {
            if (!command_line::is_ignored(signal)) ::sigaction(signal, &action, nullptr);
        }
    }
    Interruption(const Interruption&) = delete;
    Interruption& operator=(const Interruption&) = delete;
    ~Interruption() {
        for (const int signal : {SIGINT, SIGTERM}) {
            if (!command_line::is_ignored(signal)) std::signal(signal, SIG_DFL);
        }
    }

    /// The signal that came, or 0.
    [[nodiscard]] static int signal() { return detail::interruption; }
};

}  // namespace engine
