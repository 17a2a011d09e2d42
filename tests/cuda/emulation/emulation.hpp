// The emulated device as tests see it: what was called, what was wrong, what is still alive, and what shall fail next.
//
// The library under this header defines the functions of the CUDA runtime, cuBLAS, cuBLASLt and cuSOLVER that lowrank
// uses, and is linked in their place. It checks arguments as the documentation demands, runs queued work only when
// somebody waits for it, and computes in double on the CPU. It finds wrong calls; it says nothing about speed, races or
// the rounding of a real GPU.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace emulation {

/// Forgets calls, violations and failures to come; the device is as new: present, with all its memory. What is alive
/// stays alive.
void reset();

/// Names of the vendor functions called since reset(), in order.
const std::vector<std::string>& calls();
long count(const std::string& name);

/// What broke a rule since reset(): the call, what was wrong, and where the documentation demands it.
const std::vector<std::string>& violations();

/// What is alive: "2 allocations, 1 stream"; empty if nothing is.
std::string alive();

/// Lets the call of this number fail, counted from 0 from now on; or the n-th call of this name.
void fail_call(long number);
void fail(const std::string& name, long number = 0);
/// Whether that failure has happened.
bool failed();

/// What a solver reports in `info` the next time it runs: > 0 is no convergence.
void set_info(const std::string& name, int info);
/// The factors come out as if the routine had not worked, though `info` says it had.
void corrupt(const std::string& name);
/// By how much Xgesvdp claims to have perturbed the singular values.
void set_perturbation(double perturbation);
/// cuBLASLt finds no algorithm from now on.
void set_no_algorithms();
/// Bytes that the device has; 0 bytes for no device, and `no driver` as a machine without one reports it.
void set_device_memory(std::size_t bytes);
void set_no_driver();

/// Waits for all streams.
void run_all();

}  // namespace emulation
