#include "contract/forward.hpp"
#include "device_backend.hpp"
#include "device_test.hpp"

#define CONTRACT_BACKEND test::DeviceBackend
#define CONTRACT_GUARD const test::CleanDevice clean
#include "contract/forward_cases.inl"
