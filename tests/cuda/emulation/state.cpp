// The call log, injected failures, broken rules, and the handles that are alive.
#include "state.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>

namespace emulation {

State& state() {
    static State state;
    return state;
}

namespace {

/// Leaves the names of all calls of this program in the file that a variable names, for vendor_calls.sh.
struct Record {
    ~Record() {
        const char* path = std::getenv("LOWRANK_EMULATED_CALLS");
        if (path == nullptr) return;
        std::ofstream file(path);
        for (const std::string& name : names) file << name << '\n';
    }
    std::set<std::string> names;
};

Record& record() {
    static Record record;
    return record;
}

}  // namespace

Call::Call(const char* name) : lock_(state().mutex), name_(name), must_fail_(false) {
    State& s = state();
    s.calls.emplace_back(name);
    record().names.insert(name);
    if (s.fail_countdown >= 0 && s.fail_countdown-- == 0) must_fail_ = true;
    if (s.fail_name == name && s.fail_name_countdown >= 0 && s.fail_name_countdown-- == 0) must_fail_ = true;
    s.failed = s.failed || must_fail_;
}

bool Call::rule(bool holds, const std::string& what, const char* source) {
    if (!holds) state().violations.push_back(std::string(name_) + ": " + what + " [" + source + "]");
    return holds;
}

void reset() {
    State& s = state();
    const std::lock_guard lock(s.mutex);
    s.calls.clear();
    s.violations.clear();
    s.fail_countdown = s.fail_name_countdown = -1;
    s.fail_name.clear();
    s.failed = false;
    s.info.clear();
    s.corrupted.clear();
    s.perturbation = 0;
    s.no_algorithms = s.no_driver = false;
    s.device_memory = std::size_t{192} << 20U;
    s.last_error = s.asynchronous_error = cudaSuccess;
}

const std::vector<std::string>& calls() {
    return state().calls;
}

long count(const std::string& name) {
    const std::lock_guard lock(state().mutex);
    return std::count(state().calls.begin(), state().calls.end(), name);
}

const std::vector<std::string>& violations() {
    return state().violations;
}

std::string alive() {
    const State& s = state();
    std::string text;
    const auto add = [&text](std::size_t count, const std::string& what) {
        if (count == 0) return;
        if (!text.empty()) text += ", ";
        text += std::to_string(count) + " " + what + (count == 1 ? "" : "s");
    };
    add(s.allocations.size(), "allocation");
    add(s.streams.size(), "stream");
    add(s.events.size(), "event");
    add(s.graphs.size() + s.graph_execs.size(), "graph");
    add(s.handles.size(), "handle");
    return text;
}

void fail_call(long number) {
    const std::lock_guard lock(state().mutex);
    state().fail_countdown = number;
    state().failed = false;
}

void fail(const std::string& name, long number) {
    const std::lock_guard lock(state().mutex);
    state().fail_name = name;
    state().fail_name_countdown = number;
    state().failed = false;
}

bool failed() {
    return state().failed;
}

void set_info(const std::string& name, int info) {
    state().info[name] = info;
}
void corrupt(const std::string& name) {
    state().corrupted.insert(name);
}
void set_perturbation(double perturbation) {
    state().perturbation = perturbation;
}
void set_no_algorithms() {
    state().no_algorithms = true;
}
void set_device_memory(std::size_t bytes) {
    state().device_memory = bytes;
}
void set_no_driver() {
    state().no_driver = true;
}

HandleObject* make_handle(const char* what) {
    auto* handle = new HandleObject;
    state().handles.emplace(handle, what);
    return handle;
}

bool is_handle(const void* handle, const char* what) {
    const auto found = state().handles.find(handle);
    return found != state().handles.end() && std::string(found->second) == what;
}

bool destroy_handle(const void* handle, const char* what) {
    if (!is_handle(handle, what)) return false;
    state().handles.erase(handle);
    delete static_cast<const HandleObject*>(handle);
    return true;
}

}  // namespace emulation
