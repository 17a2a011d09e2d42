// compress without CUDA.
#include "device.hpp"

#include <lowrank/cpu.hpp>

lowrank::CompressReport compress_on(Device device, int threads, const lowrank::ModelFolder& model,
                                    const lowrank::CompressPlan& plan, lowrank::OutputFolder& out,
                                    const lowrank::CompressOptions& options, std::string& where) {
    if (device == Device::cuda) {
        throw lowrank::BackendError("this program was built without CUDA, so --device cuda cannot be had");
    }
    const lowrank::cpu::Context cpu({.threads = threads});
    where = "the CPU";
    return lowrank::compress(cpu, model, plan, out, options);
}
