#include "contract/cpu_backend.hpp"
#include "contract/forward.hpp"

#define CONTRACT_BACKEND test::CpuBackend
#define CONTRACT_GUARD static_cast<void>(0)
#include "contract/forward_cases.inl"
