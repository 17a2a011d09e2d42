// What the emulated libraries share: one lock, the call log, rules, device memory and streams.
#pragma once

#include "emulation.hpp"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

/// What the runtime's opaque handles point to.
struct CUstream_st {
    std::vector<std::function<void()>> queue;
    std::vector<std::function<void()>>* capture = nullptr;  ///< the graph being recorded
};
struct CUevent_st {
    cudaStream_t stream = nullptr;
    std::size_t position = 0;  ///< how many items of the stream's history come before it
    bool recorded = false;
};
struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};

namespace emulation {

enum class Kind { device, pinned };

struct Allocation {
    std::size_t bytes = 0;
    Kind kind = Kind::device;
};

struct State {
    std::recursive_mutex mutex;

    std::vector<std::string> calls;
    std::vector<std::string> violations;
    long fail_countdown = -1;
    std::string fail_name;
    long fail_name_countdown = -1;
    bool failed = false;
    std::map<std::string, int> info;
    std::set<std::string> corrupted;
    double perturbation = 0;
    bool no_algorithms = false;
    bool no_driver = false;
    std::size_t device_memory = std::size_t{192} << 20U;

    std::map<std::uintptr_t, Allocation> allocations;  // by address, as the program sees it
    std::size_t device_used = 0;
    std::set<cudaStream_t> streams;
    std::set<cudaEvent_t> events;
    std::set<cudaGraph_t> graphs;
    std::set<cudaGraphExec_t> graph_execs;
    std::map<const void*, const char*> handles;  // of the libraries, and what they are
    int capturing = 0;
    cudaError_t last_error = cudaSuccess;
    cudaError_t asynchronous_error = cudaSuccess;  // of work that ran; every later wait reports it
    CUstream_st null_stream;
};

State& state();

/// One vendor call: takes the lock, enters the log, and says whether it shall fail.
class Call {
public:
    explicit Call(const char* name);
    [[nodiscard]] bool must_fail() const { return must_fail_; }
    [[nodiscard]] const char* name() const { return name_; }

    /// Records a broken rule unless `holds`. `what` names the demand, `source` where the vendor makes it.
    bool rule(bool holds, const std::string& what, const char* source);

private:
    std::lock_guard<std::recursive_mutex> lock_;
    const char* name_;
    bool must_fail_;
};

// Device memory. The program's address cannot be read or written by it; kernels use the alias.
void* allocate_device(std::size_t bytes);
void* allocate_pinned(std::size_t bytes);
bool free_memory(void* address, Kind kind);
/// The allocation that holds [address, address + bytes), or null.
const Allocation* find_allocation(const void* address, std::size_t bytes);
bool is_device(const void* address, std::size_t bytes);
/// Where the CPU reaches device memory; other addresses are returned as they are.
void* alias(const void* address);

/// Every kernel's pointers: a rule if [address, address + bytes) is not device memory.
bool device_rule(Call& call, const char* argument, const void* address, std::size_t bytes);

// Streams.
bool is_stream(cudaStream_t stream);
void enqueue(cudaStream_t stream, std::function<void()> work);
void run(cudaStream_t stream);

/// A library's handle: an object whose address identifies it.
struct HandleObject {
    cudaStream_t stream = nullptr;
    cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
};
HandleObject* make_handle(const char* what);
bool is_handle(const void* handle, const char* what);
bool destroy_handle(const void* handle, const char* what);

}  // namespace emulation

/// Starts an emulated function: logs it, and returns `status` if it shall fail.
#define LOWRANK_EMULATED(name, status) \
    emulation::Call call(name);        \
    if (call.must_fail()) return status
