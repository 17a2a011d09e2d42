# shellcheck shell=bash
# What the scripts share: finding what they need, and installing what is missing. Sourced by them; moves to the
# repository's root.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
mkdir -p build

say() { printf '== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

have() { command -v "$1" > /dev/null 2>&1; }

# at_least FOUND WANTED, by version order
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Whether a compiler is recent enough for the library's C++20: g++ 12, clang++ 14.
good_compiler() {
    have "$1" && "$1" -x c++ -fsyntax-only - > /dev/null 2>&1 <<'CODE'
#include <version>
#if defined(__clang__) ? __clang_major__ < 14 : __GNUC__ < 12
#error too old
#endif
CODE
}

# Chooses CXX: the caller's, or the first g++ that is recent enough.
find_compiler() {
    if [ -n "${CXX:-}" ]; then
        good_compiler "$CXX" || die "CXX=$CXX is not a C++ compiler of g++ >= 12 or clang++ >= 14"
        return
    fi
    for CXX in g++ g++-12 g++-13 g++-14; do
        if good_compiler "$CXX"; then
            export CXX
            return
        fi
    done
    unset CXX
    return 1
}

have_header() { printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | "${CXX:-g++}" -E -x c++ - > /dev/null 2>&1; }

# Debian's name of the compiler's package: Ubuntu 22.04's g++ is 11.
compiler_package() {
    (. /etc/os-release 2> /dev/null && [ "${ID:-} ${VERSION_ID:-}" = "ubuntu 22.04" ] && echo g++-12) || echo g++
}

# Prints the packages, of those named, that are missing here. What came by another way than a package counts as there.
missing_packages() {
    local package
    for package in "$@"; do
        case $package in
            g++ | g++-12) find_compiler ;;
            cmake) have cmake && at_least "$(cmake --version | sed -n 's/^cmake version //p')" 3.22 ;;
            ninja-build) have ninja ;;
            libeigen3-dev) have_header eigen3/Eigen/Core || have_header Eigen/Core ;;
            nlohmann-json3-dev) have_header nlohmann/json.hpp ;;
            libcli11-dev) have_header CLI/CLI.hpp ;;
            catch2) have_header catch2/catch.hpp || have_header catch2/catch_all.hpp ;;
            libpcre2-dev) have_header pcre2.h ;;
            libutf8proc-dev) have_header utf8proc.h ;;
            libomp-14-dev) [ -e /usr/lib/llvm-14/lib/libomp.so ] ;;
            libclang-rt-14-dev) [ -d /usr/lib/llvm-14/lib/clang ] ;;
            qemu-user) have qemu-x86_64 ;;
            liblapack-dev) [ -n "$(find /usr/lib -name 'liblapack.so' 2> /dev/null)" ] ;;
            libdnnl-dev) have_header dnnl.hpp ;;
            libopenblas-openmp-dev) [ -n "$(find /usr/lib /usr/include -path '*openblas-openmp/*' -name cblas.h 2> /dev/null)" ] ;;
            python3) have python3 ;;
            python3-venv) have python3 && python3 -c 'import ensurepip, venv' 2> /dev/null ;;
            *) have "$package" ;;
        esac || echo "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"; }

# Makes sure that the packages, named as Debian and Ubuntu do, are there. If so, it needs neither the network nor root.
need_packages() {
    local missing log=build/install.log
    missing=$(missing_packages "$@" | tr '\n' ' ')
    missing=${missing% }
    [ -n "$missing" ] || return 0
    have apt-get || die "please install (Debian's names; g++ >= 12, cmake >= 3.22, Eigen >= 3.4): $missing"
    [ "$(id -u)" = 0 ] || have sudo || die "please install, as root: apt-get install $missing"
    say "installing $missing (log: $log)"
    # The package lists are fetched only where the present ones do not do.
    # shellcheck disable=SC2086  # one word for each package
    if ! apt_install $missing > "$log" 2>&1 < /dev/null; then
        as_root apt-get update >> "$log" 2>&1 || die "apt-get update failed, see $log"
        apt_install $missing >> "$log" 2>&1 < /dev/null || die "could not install $missing, see $log"
    fi
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "still missing or too old after apt-get install: $missing"
}

# What every build needs; sets CXX.
need_build_tools() {
    need_packages "$(compiler_package)" cmake ninja-build libeigen3-dev nlohmann-json3-dev libcli11-dev catch2 \
        libpcre2-dev libutf8proc-dev
    find_compiler
}

# build PRESET [TARGET...]: configures and builds it in build/PRESET.
build() {
    local preset=$1 log=build/$1-configure.log
    shift
    cmake --preset "$preset" > "$log" 2>&1 ||
        die "configuring $preset failed: $(grep -m 1 -A 2 'CMake Error' "$log" | tr -s '\n ' ' ')(log: $log)"
    cmake --build --preset "$preset" ${1:+--target "$@"}
}

# Makes build/venv with the Python packages of scripts/requirements*.txt, again only when those files change.
need_python_packages() {
    local venv=build/venv stamp=build/venv/requirements
    need_packages python3 python3-venv
    if [ -e "$stamp" ] && cat scripts/requirements*.txt | cmp --silent - "$stamp"; then
        return
    fi
    say "installing Python packages into $venv (log: build/pip.log)"
    {
        python3 -m venv --clear "$venv" &&
            "$venv/bin/pip" install --requirement scripts/requirements.txt &&
            "$venv/bin/pip" install --no-deps --requirement scripts/requirements-no-deps.txt
    } > build/pip.log 2>&1 < /dev/null || die "could not install the Python packages, see build/pip.log"
    cat scripts/requirements*.txt > "$stamp"
}
