// lowrank - everything for checkpoint files: reading and writing safetensors, compressing a model's folder.
// SPDX-License-Identifier: MIT
//
// The only part of the library that needs nlohmann/json, and POSIX. Code that only reads models includes
// <lowrank/checkpoint/model_folder.hpp>, and so does not pay for the decomposition.
#pragma once

#include <lowrank/checkpoint/calibrated_compress.hpp>
#include <lowrank/checkpoint/compress.hpp>
#include <lowrank/checkpoint/compress_plan.hpp>
#include <lowrank/checkpoint/model_folder.hpp>
#include <lowrank/checkpoint/output_folder.hpp>
#include <lowrank/checkpoint/rank_config.hpp>
#include <lowrank/checkpoint/report.hpp>
#include <lowrank/checkpoint/report_plot.hpp>
#include <lowrank/checkpoint/report_table.hpp>
#include <lowrank/checkpoint/safetensors.hpp>
#include <lowrank/checkpoint/safetensors_writer.hpp>
#include <lowrank/checkpoint/statistics.hpp>
#include <lowrank/checkpoint/statistics_writer.hpp>
#include <lowrank/checkpoint/weighted_compress.hpp>
