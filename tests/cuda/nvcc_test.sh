#!/usr/bin/env bash
# nvcc_test.sh NVCC SOURCE EIGEN BINARY: compiles and links a translation unit with nvcc, and runs it.
set -euo pipefail
nvcc=$1 source=$2 eigen=$3 binary=$4
"$nvcc" -std=c++20 -arch=sm_90 -I "$source/include" -isystem "$eigen" "$source/tests/cuda/nvcc_test.cu" -o "$binary" \
    -lcudart -lcublas -lcublasLt -lcusolver
LD_LIBRARY_PATH=$(dirname "$(dirname "$(readlink -f "$nvcc")")")/lib64 "$binary"
