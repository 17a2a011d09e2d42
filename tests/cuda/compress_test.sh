#!/usr/bin/env bash
# compress --device: on an emulated GPU the same checkpoint as on the CPU up to rounding; without a driver the real
# program falls back, or says why it cannot.
#     compress_test.sh COMPRESS COMPRESS_EMULATED FIXTURES
set -uo pipefail

compress=$(realpath -e "$1") || exit 1
emulated=$(realpath -e "$2") || exit 1
fixtures=$(realpath -e "$3") || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
cp -r "$fixtures/tiny" in
ranks=q_proj=6,o_proj=7,gate_proj=8,down_proj=5
failures=0

fail() {
    printf 'FAILED: %s\n' "$*"
    cat out err
    failures=$((failures + 1))
}

# errors FILE: the layers' relative errors, one a line
errors() { tr -d ' \n' < "$1" | grep -o '"relative_error":[0-9.e-]*' | cut -d: -f2; }

# close A B: as many numbers in both files, the same up to the rounding of sums in float
close() { paste "$1" "$2" | awk '{ d = $1 - $2; if (NF != 2 || d > 1e-5 || d < -1e-5) bad = 1 } END { exit bad || NR == 0 }'; }

"$compress" in on_cpu --ranks $ranks --device cpu --json cpu.json > out 2> err || fail "--device cpu"
grep -q '^computed on the CPU$' out || fail "does not say that it ran on the CPU"
"$emulated" in on_device --ranks $ranks --device cuda --json device.json > out 2> err || fail "--device cuda, emulated"
grep -q '^computed on emulation on the CPU, not a GPU' out || fail "does not say that it was emulated"
errors cpu.json > cpu.errors
errors device.json > device.errors
close cpu.errors device.errors || fail "errors: $(xargs < cpu.errors) and $(xargs < device.errors)"
for file in on_cpu/*; do
    [ "$(stat -c %s "$file")" = "$(stat -c %s "on_device/${file#on_cpu/}")" ] || fail "the size of $file differs"
done
"$emulated" in automatic --ranks $ranks > out 2> err || fail "--device auto, emulated"
grep -q '^computed on emulation' out || fail "auto does not take the device"

# On a machine with a GPU these would use it, and nothing is left to show.
if ! [ -e /dev/nvidia0 ]; then
    "$compress" in fallen_back --ranks $ranks > out 2> err || fail "--device auto without a driver"
    grep -q '^computed on the CPU, since cudaGetDeviceCount failed' out || fail "auto does not say why"
    "$compress" in refused --ranks $ranks --device cuda > out 2> err && fail "--device cuda without a driver succeeds"
    grep -q '^compress: cudaGetDeviceCount failed with' err || fail "cuda does not say why not"
    [ ! -e refused ] || fail "a refused run leaves a folder"
fi
[ "$failures" = 0 ]
