# Cross-compiles for aarch64 on Debian 12 and runs what it builds under qemu; CONTRIBUTING.md names
# the packages.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
# Where Debian puts libraries of this architecture: nothing of the machine that builds is linked.
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
