// bench_forward's peer torch, in torch_peer.py.
// SPDX-License-Identifier: MIT
#pragma once

#include "../torch_process.hpp"
#include "own.hpp"

#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace bench {

/// Adds "torch" and "torch:dense", unless torch cannot do the case.
inline void add_torch(TorchProcess& torch, std::vector<Contender>& contenders, const Case& c) {
    std::ostringstream request;
    request << "case " << c.d_in << ' ' << c.d_out << ' ' << c.rank << ' ' << c.rows << ' ' << c.type << ' '
            << c.weight_bytes;
    const std::string answer = torch.ask(request.str());
    if (answer != "ready") {
        std::cerr << "torch leaves out " << request.str() << ": " << answer << '\n';
        return;
    }
    contenders.push_back({"torch", [&torch](double seconds) { return torch.times("low_rank", seconds); }});
    contenders.push_back({"torch:dense", [&torch](double seconds) { return torch.times("dense", seconds); }});
}

}  // namespace bench
