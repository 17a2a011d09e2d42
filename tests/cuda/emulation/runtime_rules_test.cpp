#include "rules_test.hpp"

#include <cmath>
#include <cstdint>

#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

using test::check_refused;
using test::RawDevice;

TEST_CASE("New device memory is NaN, and copies run when the stream is waited for", "[emulation]") {
    RawDevice d;
    CHECK(cudaMemcpyAsync(d.host, d.device, 8, cudaMemcpyDefault, d.stream) == cudaSuccess);
    CHECK(d.host[0] == 0);
    CHECK(cudaStreamSynchronize(d.stream) == cudaSuccess);
    CHECK(std::isnan(d.host[0]));
    CHECK(emulation::violations().empty());
}

TEST_CASE("Host code that follows a device pointer crashes", "[emulation]") {
    RawDevice d;
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(*const_cast<volatile float*>(d.device) == 0 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    // A sanitizer turns the signal into an exit of its own.
    CHECK((WIFSIGNALED(status) || WEXITSTATUS(status) > 1));
}

TEST_CASE("Wrong calls of the runtime are refused", "[emulation]") {
    RawDevice d;
    const auto dead = reinterpret_cast<cudaStream_t>(&d);
    cudaDeviceProp properties;
    check_refused(cudaGetDeviceProperties(&properties, 1), "there is no device 1");
    check_refused(cudaFree(d.host), "not one of cudaMalloc");
    check_refused(cudaFree(d.device + 1), "not one of cudaMalloc");
    check_refused(cudaFreeHost(d.device), "not one of cudaMallocHost");
    check_refused(cudaMemcpyAsync(d.device, d.host, 4, cudaMemcpyDefault, dead), "the stream is not alive");
    check_refused(cudaMemcpyAsync(d.device + 1, d.host, 4 * RawDevice::kCount, cudaMemcpyDefault, d.stream),
                  "dst reaches outside");
    check_refused(cudaMemcpyAsync(d.host, d.device + 1, 4 * RawDevice::kCount, cudaMemcpyDefault, d.stream),
                  "src reaches outside");
    check_refused(cudaMemcpy2DAsync(d.device, 4, d.host, 8, 8, 2, cudaMemcpyDefault, d.stream), "exceeds a pitch");
    check_refused(cudaMemcpy2DAsync(d.device, 8192, d.host, 8, 8, 3, cudaMemcpyDefault, d.stream), "dst reaches");
    check_refused(cudaMemsetAsync(d.host, 0, 4, d.stream), "not that many bytes of device memory");
    check_refused(cudaStreamCreateWithFlags(&d.stream, 7), "unknown flags");
    check_refused(cudaStreamSynchronize(dead), "the stream is not alive");
    check_refused(cudaStreamDestroy(dead), "the stream is not alive");
}

TEST_CASE("Memory is used up, and given back", "[emulation]") {
    RawDevice d;
    emulation::set_device_memory(20000);
    void* memory = nullptr;
    CHECK(cudaMalloc(&memory, 5000) == cudaErrorMemoryAllocation);
    CHECK(cudaMalloc(&memory, 3000) == cudaSuccess);
    CHECK(cudaFree(memory) == cudaSuccess);
    check_refused(cudaFree(memory), "free already");
    void* pinned = nullptr;
    CHECK(cudaMallocHost(&pinned, 64) == cudaSuccess);
    CHECK(emulation::alive().find("2 allocations") == 0);
    CHECK(cudaFreeHost(pinned) == cudaSuccess);
}

TEST_CASE("Events order streams, and wrong ones are refused", "[emulation]") {
    RawDevice d;
    cudaStream_t other = nullptr;
    cudaEvent_t event = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
    check_refused(cudaStreamWaitEvent(other, event, 0), "the event is not recorded");
    check_refused(cudaEventSynchronize(event), "the event is not recorded");
    CHECK(cudaMemsetAsync(d.device, 0, 16, d.stream) == cudaSuccess);
    d.host[0] = 1;
    SECTION("with an event the second stream waits for the first") {
        CHECK(cudaEventRecord(event, d.stream) == cudaSuccess);
        CHECK(cudaStreamWaitEvent(other, event, 0) == cudaSuccess);
        CHECK(cudaMemcpyAsync(d.host, d.device, 4, cudaMemcpyDefault, other) == cudaSuccess);
        CHECK(cudaStreamSynchronize(other) == cudaSuccess);
        CHECK(d.host[0] == 0);
    }
    SECTION("without one it does not") {
        CHECK(cudaMemcpyAsync(d.host, d.device, 4, cudaMemcpyDefault, other) == cudaSuccess);
        CHECK(cudaStreamSynchronize(other) == cudaSuccess);
        CHECK(std::isnan(d.host[0]));
    }
    CHECK(cudaEventDestroy(event) == cudaSuccess);
    check_refused(cudaEventRecord(event, d.stream), "the event or the stream is not alive");
    check_refused(cudaEventDestroy(event), "the event is not alive");
    CHECK(cudaStreamDestroy(other) == cudaSuccess);
}

TEST_CASE("A stream that is captured records and does not run, and prohibits what CUDA prohibits", "[emulation]") {
    RawDevice d;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    void* memory = nullptr;
    check_refused(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), "cannot be captured");
    check_refused(cudaStreamEndCapture(d.stream, &graph), "is not being captured");
    REQUIRE(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    CHECK(cudaMemsetAsync(d.device, 0, 4, d.stream) == cudaSuccess);
    check_refused(cudaMalloc(&memory, 4), "no allocation while a stream is being captured");
    check_refused(cudaFree(d.device), "no deallocation while a stream is being captured");
    check_refused(cudaStreamSynchronize(d.stream), "cannot be waited for");
    std::int64_t index = 0;
    check_refused(cublasIsamax_64(d.blas, 4, d.device, 1, &index), "cannot be captured");
    REQUIRE(cudaStreamEndCapture(d.stream, &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    CHECK(cudaMemcpyAsync(d.host, d.device, 4, cudaMemcpyDefault, d.stream) == cudaSuccess);
    CHECK(cudaGraphLaunch(exec, d.stream) == cudaSuccess);
    CHECK(cudaMemcpyAsync(d.host + 1, d.device, 4, cudaMemcpyDefault, d.stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(d.stream) == cudaSuccess);
    CHECK(std::isnan(d.host[0]));
    CHECK(d.host[1] == 0);
    CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
}

TEST_CASE("Without a driver or a device the runtime says so", "[emulation]") {
    emulation::reset();
    int count = -1;
    emulation::set_no_driver();
    CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
    CHECK(count == 0);
    CHECK(cudaGetLastError() == cudaErrorInsufficientDriver);
    CHECK(cudaGetLastError() == cudaSuccess);
    emulation::reset();
    emulation::set_device_memory(0);
    CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
    emulation::reset();
}

TEST_CASE("Any call can be made to fail, by its number or its name", "[emulation]") {
    emulation::reset();
    int value = 0;
    std::size_t free = 0;
    std::size_t total = 0;
    emulation::fail_call(1);
    CHECK(cudaGetDevice(&value) == cudaSuccess);
    CHECK_FALSE(emulation::failed());
    CHECK(cudaGetDevice(&value) != cudaSuccess);
    CHECK(emulation::failed());
    CHECK(cudaGetDevice(&value) == cudaSuccess);
    emulation::fail("cudaMemGetInfo", 1);
    CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
    CHECK(cudaMemGetInfo(&free, &total) != cudaSuccess);
    CHECK(emulation::count("cudaGetDevice") == 3);
    emulation::reset();
}
