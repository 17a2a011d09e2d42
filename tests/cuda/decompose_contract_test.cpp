#include "contract/decompose.hpp"
#include "device_backend.hpp"
#include "device_test.hpp"

#define CONTRACT_BACKEND test::DeviceBackend
#define CONTRACT_GUARD const test::CleanDevice clean
#include "contract/decompose_cases.inl"
