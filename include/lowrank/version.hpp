// lowrank - the library's version. CMakeLists.txt reads the three numbers below; they are written nowhere else.
// SPDX-License-Identifier: MIT
#pragma once

#define LOWRANK_VERSION_MAJOR 0
#define LOWRANK_VERSION_MINOR 1
#define LOWRANK_VERSION_PATCH 0

#define LOWRANK_DETAIL_STRING_(x) #x
#define LOWRANK_DETAIL_STRING(x) LOWRANK_DETAIL_STRING_(x)
#define LOWRANK_VERSION_STRING                   \
    LOWRANK_DETAIL_STRING(LOWRANK_VERSION_MAJOR) \
    "." LOWRANK_DETAIL_STRING(LOWRANK_VERSION_MINOR) "." LOWRANK_DETAIL_STRING(LOWRANK_VERSION_PATCH)
