#pragma once

#include <cstdint>

std::int64_t decomposed_rank();
