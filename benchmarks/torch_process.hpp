// A Python program with torch that answers through pipes, so that it takes its turns with the other contenders.
// SPDX-License-Identifier: MIT
#pragma once

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

class TorchProcess {
public:
    /// `python` runs `script`. Throws if pipes or the process cannot be made.
    TorchProcess(const std::string& python, const std::string& script, int threads) {
        int to_child[2];
        int from_child[2];
        if (pipe(to_child) != 0 || pipe(from_child) != 0) throw std::runtime_error("no pipe to the torch peer");
        std::signal(SIGPIPE, SIG_IGN);  // an answer that does not come is reported by ask()
        const std::string count = std::to_string(threads);
        child_ = fork();
        if (child_ < 0) throw std::runtime_error("cannot start the torch peer");
        if (child_ == 0) {
            dup2(to_child[0], 0);
            dup2(from_child[1], 1);
            for (const int end : {to_child[0], to_child[1], from_child[0], from_child[1]}) close(end);
            execlp(python.c_str(), python.c_str(), script.c_str(), "--threads", count.c_str(), nullptr);
            _exit(127);
        }
        close(to_child[0]);
        close(from_child[1]);
        out_ = fdopen(to_child[1], "w");
        in_ = fdopen(from_child[0], "r");
    }
    ~TorchProcess() {
        std::fclose(out_);
        std::fclose(in_);
        waitpid(child_, nullptr, 0);
    }
    TorchProcess(const TorchProcess&) = delete;
    TorchProcess& operator=(const TorchProcess&) = delete;

    /// One line there, one line back.
    std::string ask(const std::string& request) {
        std::fputs((request + '\n').c_str(), out_);
        std::fflush(out_);
        std::string answer;
        for (int c = std::fgetc(in_); c != '\n'; c = std::fgetc(in_)) {
            if (c == EOF) throw std::runtime_error("the torch peer ended; does its Python have torch?");
            answer += static_cast<char>(c);
        }
        return answer;
    }
    /// The answer to "KIND SECONDS": the duration of each call.
    std::vector<double> times(const std::string& kind, double seconds) {
        std::istringstream answer(ask(kind + ' ' + std::to_string(seconds)));
        std::vector<double> values;
        for (double value = 0; answer >> value;) values.push_back(value);
        return values;
    }

private:
    pid_t child_ = -1;
    std::FILE* out_ = nullptr;
    std::FILE* in_ = nullptr;
};

}  // namespace bench
