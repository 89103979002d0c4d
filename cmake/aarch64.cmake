# Cross build for aarch64 Linux: cmake --preset release -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DPS_WITH_DNNL=OFF
# Needs gcc-aarch64-linux-gnu and the libraries of docs/dependencies.md for arm64 (dpkg --add-architecture arm64); tests run
# under qemu-user. .github/workflows/ci.yml has the whole list.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
