// What people see while `compress` works, and what happens when they interrupt it.
#pragma once

#include <command_line/standard_streams.hpp>
#include <lowrank/checkpoint.hpp>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <pthread.h>
#include <unistd.h>

/// A bar that is redrawn on a terminal, or one line for each layer in a file or a pipe. Writes to stderr.
class ProgressLine {
public:
    enum class Style { none, bar, lines };

    explicit ProgressLine(Style style) : style_(style) {}

    void show(const lowrank::CompressProgress& progress) {
        if (style_ == Style::lines && progress.layer != nullptr) show_line(progress);
        if (style_ == Style::bar && (progress.layer != nullptr || progress.seconds - last_ >= kRedraw)) draw(progress);
    }

    /// Ends the bar's line.
    void finish() {
        if (style_ == Style::bar && last_ > 0) std::fputs("\r\033[K", stderr);
    }

private:
    static constexpr double kRedraw = 0.1;  // seconds between redraws: smooth to the eye, free of cost
    static constexpr int kWidth = 30;

    static std::string duration(double seconds) {
        const auto whole = static_cast<long>(std::lround(seconds));
        char text[32];
        if (whole >= 3600) {
            std::snprintf(text, sizeof(text), "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
        } else {
            std::snprintf(text, sizeof(text), "%ld:%02ld", whole / 60, whole % 60);
        }
        return text;
    }

    static std::string eta(const lowrank::CompressProgress& progress) {
        return progress.seconds_left ? ", " + duration(*progress.seconds_left) + " left" : "";
    }

    static void show_line(const lowrank::CompressProgress& progress) {
        const lowrank::CompressedLayer& layer = *progress.layer;
        std::string what = layer.choice ? "dense" : "factorised";
        if (!layer.dense()) {
            char text[64];
            std::snprintf(text, sizeof(text), "rank %lld, error %.4f", static_cast<long long>(layer.choice->rank),
                          layer.relative_error.value_or(0));
            what = text;
        }
        std::fprintf(stderr, "[%lld/%lld] %s: %s, %.1f s%s\n", static_cast<long long>(progress.done),
                     static_cast<long long>(progress.layers), layer.module.c_str(), what.c_str(),
                     layer.seconds.value_or(0), eta(progress).c_str());
    }

    void draw(const lowrank::CompressProgress& progress) {
        last_ = progress.seconds;
        const std::int64_t full = progress.layers > 0 ? kWidth * progress.done / progress.layers : kWidth;
        const std::string bar(static_cast<std::size_t>(full), '#');
        std::fprintf(stderr, "\r\033[K[%-*s] %lld/%lld layers, %s%s", kWidth, bar.c_str(),
                     static_cast<long long>(progress.done), static_cast<long long>(progress.layers),
                     duration(progress.seconds).c_str(), eta(progress).c_str());
        std::fflush(stderr);
    }

    Style style_;
    double last_ = 0;
};

/// While it lives, SIGINT, SIGTERM and SIGHUP remove what was written so far and end the program as the signal would.
/// A thread of its own waits for them, since removing files is not allowed in a signal handler. Make it before other
/// threads, which inherit that the signals are blocked.
class Interruption {
public:
    explicit Interruption(std::vector<lowrank::OutputFolder*> outs) {
        sigemptyset(&signals_);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
            if (!command_line::is_ignored(signal)) sigaddset(&signals_, signal);
        }
        sigaddset(&signals_, kDone);
        pthread_sigmask(SIG_BLOCK, &signals_, &before_);
        waiter_ = std::thread([this, outs = std::move(outs)] {
            int signal = 0;
            sigwait(&signals_, &signal);
            if (signal == kDone) return;
            for (lowrank::OutputFolder* out : outs) out->abandon();
            std::fputs("\ncompress: interrupted\n", stderr);
            std::_Exit(kSignalStatus + signal);
        });
    }
    Interruption(const Interruption&) = delete;
    Interruption& operator=(const Interruption&) = delete;
    ~Interruption() {
        pthread_kill(waiter_.native_handle(), kDone);
        waiter_.join();
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    static constexpr int kDone = SIGUSR1;      // sent to the waiter when there is nothing left to interrupt
    static constexpr int kSignalStatus = 128;  // the shell's convention: 128 + the signal's number

    sigset_t signals_{};
    sigset_t before_{};
    std::thread waiter_;
};
