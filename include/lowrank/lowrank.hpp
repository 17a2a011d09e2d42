// lowrank - everything for the CPU. Including it costs a translation unit the decomposition; code that only runs
// layers includes <lowrank/low_rank_linear.hpp> instead.
// SPDX-License-Identifier: MIT
#pragma once

#include <lowrank/allocate.hpp>
#include <lowrank/calibration.hpp>
#include <lowrank/cpu.hpp>
#include <lowrank/decompose.hpp>
#include <lowrank/decompose_calibrated.hpp>
#include <lowrank/error.hpp>
#include <lowrank/factors.hpp>
#include <lowrank/linear.hpp>
#include <lowrank/linear_group.hpp>
#include <lowrank/low_rank_linear.hpp>
#include <lowrank/matrix.hpp>
#include <lowrank/model.hpp>
#include <lowrank/rank.hpp>
#include <lowrank/rank_config.hpp>
#include <lowrank/scalar.hpp>
#include <lowrank/version.hpp>
#include <lowrank/workspace.hpp>
