#!/usr/bin/env bash
# Every vendor function that the headers call is in the table of docs/cuda.md, and the test named there calls it.
#     vendor_calls.sh SOURCE CALLS      CALLS holds, for each test that ran, the names that it called
set -uo pipefail
source=$1
calls=$2
failures=0

fail() {
    printf 'FAILED: %s\n' "$*"
    failures=$((failures + 1))
}

# The rows: | `name`, `name` | what for | test |
rows=$(sed -n 's/^| \(`cu[^|]*`\|`nvrtc[^|]*`\) |[^|]*| \([a-z_]*\) |$/\1 \2/p' "$source/docs/cuda.md" | tr -d '`,')
[ -n "$rows" ] || fail "docs/cuda.md has no table"
while read -r line; do
    test=${line##* }
    for name in ${line% *}; do
        case $name in
            nvrtc*) ;;  # the real library, which needs no GPU
            *) grep -qx "$name" "$calls/$test" || fail "$test does not call $name" ;;
        esac
    done
done <<< "$rows"

called=$(grep -rhoE '\b(cuda|cublas|cublasLt|cusolverDn|nvrtc)[A-Z][A-Za-z0-9_]+\(|Handle<[A-Za-z_]*, *cu[A-Za-z0-9]+' "$source/include/lowrank/cuda" |
    sed 's/($//; s/.*, *//; s/_v2$//' | grep -vE 'GetErrorName|GetErrorString|GetStatusName|GetLastError' | sort -u)
[ -n "$called" ] || fail "the headers call nothing"
for name in $called; do
    grep -qw "$name" <<< "$rows" || fail "docs/cuda.md does not list $name"
done
[ "$failures" = 0 ]
