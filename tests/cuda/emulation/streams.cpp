// Emulated streams, events and graphs. Work that is queued runs when somebody waits for it, and not before: whoever
// reads a result too early reads poison, and whoever frees an operand too early is found out.
#include "state.hpp"

#include <algorithm>
#include <utility>

using namespace emulation;

namespace emulation {

bool is_stream(cudaStream_t stream) {
    return stream == nullptr || state().streams.count(stream) != 0;
}

namespace {

CUstream_st& object(cudaStream_t stream) {
    return stream == nullptr ? state().null_stream : *stream;
}

}  // namespace

void enqueue(cudaStream_t stream, std::function<void()> work) {
    CUstream_st& s = object(stream);
    (s.capture != nullptr ? *s.capture : s.queue).push_back(std::move(work));
}

void run(cudaStream_t stream) {
    CUstream_st& s = object(stream);
    std::vector<std::function<void()>> queue;
    queue.swap(s.queue);
    for (const auto& work : queue) work();
}

void run_all() {
    const std::lock_guard lock(state().mutex);
    run(nullptr);
    for (cudaStream_t stream : state().streams) run(stream);
}

}  // namespace emulation

namespace {

cudaError_t keep(cudaError_t error) {
    state().last_error = error;
    return error;
}
bool waiting_rule(Call& call, cudaStream_t stream) {
    return call.rule(stream == nullptr || !is_stream(stream) || stream->capture == nullptr,
                     "a stream that is being captured cannot be waited for",
                     "CUDA Programming Guide, CUDA Graphs, Prohibited and Unhandled Operations");
}

}  // namespace

extern "C" {

cudaError_t CUDARTAPI cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
    LOWRANK_EMULATED("cudaStreamCreateWithFlags", keep(cudaErrorUnknown));
    if (!call.rule(flags <= cudaStreamNonBlocking, "unknown flags", "CUDA Runtime API, cudaStreamCreateWithFlags")) {
        return keep(cudaErrorInvalidValue);
    }
    *stream = new CUstream_st;
    state().streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t stream) {
    Call call("cudaStreamDestroy");
    if (!call.rule(stream != nullptr && is_stream(stream), "the stream is not alive",
                   "CUDA Runtime API, cudaStreamDestroy: cudaErrorInvalidResourceHandle")) {
        return keep(cudaErrorInvalidResourceHandle);
    }
    run(stream);
    state().streams.erase(stream);
    delete stream;
    return call.must_fail() ? keep(cudaErrorUnknown) : cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamSynchronize(cudaStream_t stream) {
    Call call("cudaStreamSynchronize");
    if (call.must_fail()) {  // reports an error of work that was queued: none of it goes on
        if (is_stream(stream)) run(stream);
        return keep(cudaErrorUnknown);
    }
    if (!call.rule(is_stream(stream), "the stream is not alive", "CUDA Runtime API, cudaStreamSynchronize"))
        return keep(cudaErrorInvalidResourceHandle);
    if (!waiting_rule(call, stream)) return keep(cudaErrorStreamCaptureUnsupported);
    run(stream);
    return keep(state().asynchronous_error);
}

cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
    LOWRANK_EMULATED("cudaEventCreateWithFlags", keep(cudaErrorUnknown));
    *event = new CUevent_st;
    state().events.insert(*event);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event) {
    Call call("cudaEventDestroy");
    if (!call.rule(state().events.erase(event) == 1, "the event is not alive", "CUDA Runtime API, cudaEventDestroy"))
        return keep(cudaErrorInvalidResourceHandle);
    delete event;
    return call.must_fail() ? keep(cudaErrorUnknown) : cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    LOWRANK_EMULATED("cudaEventRecord", keep(cudaErrorUnknown));
    if (!call.rule(state().events.count(event) == 1 && is_stream(stream), "the event or the stream is not alive",
                   "CUDA Runtime API, cudaEventRecord")) {
        return keep(cudaErrorInvalidResourceHandle);
    }
    event->stream = stream;
    event->recorded = true;
    return cudaSuccess;
}

// Waiting for an event runs its whole stream: as right as running it up to the event, since nothing forbids it.
cudaError_t CUDARTAPI cudaEventSynchronize(cudaEvent_t event) {
    LOWRANK_EMULATED("cudaEventSynchronize", keep(cudaErrorUnknown));
    if (!call.rule(state().events.count(event) == 1 && event->recorded, "the event is not recorded",
                   "CUDA Runtime API, cudaEventSynchronize")) {
        return keep(cudaErrorInvalidResourceHandle);
    }
    run(event->stream);
    return keep(state().asynchronous_error);
}

cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
    LOWRANK_EMULATED("cudaStreamWaitEvent", keep(cudaErrorUnknown));
    if (!call.rule(state().events.count(event) == 1 && event->recorded && is_stream(stream),
                   "the event is not recorded, or the stream is not alive", "CUDA Runtime API, cudaStreamWaitEvent")) {
        return keep(cudaErrorInvalidResourceHandle);
    }
    cudaStream_t other = event->stream;
    enqueue(stream, [other] { run(other); });
    return cudaSuccess;
}

// The time of an emulation means nothing: 0.
cudaError_t CUDARTAPI cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    LOWRANK_EMULATED("cudaEventElapsedTime", keep(cudaErrorUnknown));
    *milliseconds = 0;
    return start->recorded && end->recorded ? cudaSuccess : keep(cudaErrorInvalidResourceHandle);
}

cudaError_t CUDARTAPI cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    LOWRANK_EMULATED("cudaStreamBeginCapture", keep(cudaErrorUnknown));
    if (!call.rule(stream != nullptr && is_stream(stream) && stream->capture == nullptr,
                   "the stream cannot be captured: it is the default stream, not alive, or captured already",
                   "CUDA Runtime API, cudaStreamBeginCapture")) {
        return keep(cudaErrorStreamCaptureUnsupported);
    }
    stream->capture = new std::vector<std::function<void()>>;
    ++state().capturing;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    LOWRANK_EMULATED("cudaStreamEndCapture", keep(cudaErrorUnknown));
    if (!call.rule(stream != nullptr && is_stream(stream) && stream->capture != nullptr,
                   "the stream is not being captured", "CUDA Runtime API, cudaStreamEndCapture")) {
        return keep(cudaErrorStreamCaptureUnsupported);
    }
    *graph = new CUgraph_st{std::move(*stream->capture)};
    delete std::exchange(stream->capture, nullptr);
    --state().capturing;
    state().graphs.insert(*graph);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    LOWRANK_EMULATED("cudaGraphInstantiate", keep(cudaErrorUnknown));
    *exec = new CUgraphExec_st{graph->work};
    state().graph_execs.insert(*exec);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    LOWRANK_EMULATED("cudaGraphLaunch", keep(cudaErrorUnknown));
    for (const auto& work : exec->work) enqueue(stream, work);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphDestroy(cudaGraph_t graph) {
    LOWRANK_EMULATED("cudaGraphDestroy", keep(cudaErrorUnknown));
    state().graphs.erase(graph);
    delete graph;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphExecDestroy(cudaGraphExec_t exec) {
    LOWRANK_EMULATED("cudaGraphExecDestroy", keep(cudaErrorUnknown));
    state().graph_execs.erase(exec);
    delete exec;
    return cudaSuccess;
}

}  // extern "C"
