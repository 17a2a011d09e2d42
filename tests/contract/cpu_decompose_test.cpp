#include <lowrank/decompose.hpp>

#include "contract/cpu_backend.hpp"
#include "contract/decompose.hpp"

#define CONTRACT_BACKEND test::CpuBackend
#define CONTRACT_GUARD static_cast<void>(0)
#include "contract/decompose_cases.inl"
