// What the programs do about standard output and signals that would end them on a failed write.
#pragma once

#include <csignal>
#include <cstdio>
#include <iostream>

namespace command_line {

/// A pipe that was closed and a file that grew too large fail the write then, as a full disk does, instead of ending
/// the program in the middle of its work.
inline void let_writes_fail() {
    for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
}

/// False, with a message, if something that was printed did not get out.
inline bool output_is_complete(const char* program) {
    std::cout.flush();
    if (std::cout && std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return true;
    std::cerr << program << ": cannot write to standard output\n";
    return false;
}

/// Whether whoever started the program wants it to live through this signal, as nohup does of SIGHUP.
inline bool is_ignored(int signal) {
    struct sigaction action {};
    return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace command_line
