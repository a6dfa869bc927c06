# Debian packages, named in debian-packages.txt and, for benchmarks alone,
# debian-packages-bench.txt. A missing one stops the configuration with
# the line that installs it.
find_package(Threads REQUIRED)

set(missing "")
macro(require_header header package)
  find_path(FOUND_${package} ${header})
  if(NOT FOUND_${package})
    list(APPEND missing ${package})
  endif()
endmacro()

require_header(hwy/highway.h libhwy-dev)
require_header(xxhash.h libxxhash-dev)
require_header(liburing.h liburing-dev)
require_header(nlohmann/json.hpp nlohmann-json3-dev)
if(MXREC_BUILD_TESTS OR MXREC_BUILD_BENCHMARKS)
  require_header(gtest/gtest.h libgtest-dev)
endif()
if(MXREC_BUILD_BENCHMARKS)
  require_header(benchmark/benchmark.h libbenchmark-dev)
  require_header(absl/container/flat_hash_map.h libabsl-dev)
  require_header(boost/unordered/unordered_flat_map.hpp libboost1.81-dev)
  require_header(libcuckoo/cuckoohash_map.hh libcuckoo-dev)
  require_header(rocksdb/db.h librocksdb-dev)
endif()
if(missing)
  list(JOIN missing " " packages)
  message(FATAL_ERROR "Missing C++ libraries. Install them with\n  apt-get install ${packages}")
endif()

find_library(HWY_LIBRARY hwy REQUIRED)
# The archive, so that nothing has to be installed where the engine runs.
find_library(URING_LIBRARY liburing.a REQUIRED)
