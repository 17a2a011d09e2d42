// lowrank - the CPU backend: context, decomposition, forward.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/cpu/context.hpp>
#include <lowrank/cpu/decompose.hpp>
#include <lowrank/cpu/forward.hpp>
