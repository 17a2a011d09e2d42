// compress on the device of the user's choice. device_cuda.cpp carries it out where CUDA is found, device_cpu.cpp else.
#pragma once

#include <lowrank/checkpoint.hpp>

#include <string>

enum class Device { automatic, cpu, cuda };

/// Runs lowrank::compress where `device` says; `where` becomes what computed, in one line. Throws BackendError for
/// Device::cuda without a GPU.
lowrank::CompressReport compress_on(Device device, int threads, const lowrank::ModelFolder& model,
                                    const lowrank::CompressPlan& plan, lowrank::OutputFolder& out,
                                    const lowrank::CompressOptions& options, std::string& where);
