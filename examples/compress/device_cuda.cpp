// compress with CUDA: on the GPU if asked for, or if one answers.
#include "device.hpp"

#include <lowrank/cpu.hpp>
#include <lowrank/cuda.hpp>

#include <optional>

lowrank::CompressReport compress_on(Device device, int threads, const lowrank::ModelFolder& model,
                                    const lowrank::CompressPlan& plan, lowrank::OutputFolder& out,
                                    const lowrank::CompressOptions& options, std::string& where) {
    where = "the CPU";
    if (device != Device::cpu) {
        std::string why_not;
        if (std::optional<lowrank::cuda::Context> gpu = lowrank::cuda::try_context(why_not)) {
            where = lowrank::cuda::describe(*gpu);
            const lowrank::cuda::Offload offload(*gpu);
            return lowrank::compress(offload, model, plan, out, options);
        }
        if (device == Device::cuda) throw lowrank::BackendError(why_not);
        where += ", since " + why_not;
    }
    const lowrank::cpu::Context cpu({.threads = threads});
    return lowrank::compress(cpu, model, plan, out, options);
}
