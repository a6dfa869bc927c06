#!/usr/bin/env bash
# Installs the C++ libraries of debian-packages.txt where there is no Debian: in the manylinux
# image. All become static libraries, so that wheels need no copy of a shared one.
set -euo pipefail

PREFIX=${1:-/usr/local}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

clone() { # REPOSITORY TAG
  git clone --quiet --depth 1 --branch "$2" "https://github.com/$1" "$WORK/${1##*/}"
}

clone google/highway 1.2.0
cmake -S "$WORK/highway" -B "$WORK/highway-build" \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$PREFIX" -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
  -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF -DHWY_ENABLE_TESTS=OFF -DHWY_ENABLE_EXAMPLES=OFF \
  -DHWY_ENABLE_CONTRIB=OFF
cmake --build "$WORK/highway-build" --parallel
cmake --install "$WORK/highway-build"

clone axboe/liburing liburing-2.5
(
  # For a shared library, also where gcc does not make position independent code by itself.
  export LIBURING_CFLAGS=-fPIC ENABLE_SHARED=0
  cd "$WORK/liburing" && ./configure --prefix="$PREFIX" && make -C src -j2 && make install
) >/dev/null

# Headers only, as mxrec uses them.
clone Cyan4973/xxHash v0.8.2
clone nlohmann/json v3.11.3
install -D -m 644 "$WORK/xxHash/xxhash.h" "$PREFIX/include/xxhash.h"
mkdir -p "$PREFIX/include/nlohmann"
cp -r "$WORK/json/single_include/nlohmann/." "$PREFIX/include/nlohmann/"
