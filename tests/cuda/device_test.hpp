// A test's claim that it leaves the device as it found it: no rule broken, nothing alive. On a real device there is
// nobody to ask, and compute-sanitizer watches instead.
#pragma once

#include "catch.hpp"
#include "common.hpp"

#ifdef LOWRANK_TESTS_ON_DEVICE

namespace test {
struct CleanDevice {
    CleanDevice() {}
};
}  // namespace test

#else

#include "emulation/emulation.hpp"

namespace test {

class CleanDevice {
public:
    CleanDevice() { emulation::reset(); }
    CleanDevice(const CleanDevice&) = delete;
    CleanDevice& operator=(const CleanDevice&) = delete;
    ~CleanDevice() {
        CHECK(emulation::violations() == std::vector<std::string>());
        CHECK(emulation::alive() == "");
    }
};

}  // namespace test

#endif
