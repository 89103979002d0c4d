# Flags of every target. x86-64-v2 is the floor that must work; faster instruction sets are chosen at run time.
add_library(ps_warnings INTERFACE)
target_compile_options(ps_warnings INTERFACE -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes
  -Wmissing-prototypes -Wvla -Wno-unused-parameter -Wno-missing-field-initializers
  # errors with GCC 14, and never right
  -Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion)
target_compile_definitions(ps_warnings INTERFACE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE PS_VERSION="${PROJECT_VERSION}")

add_library(ps_flags INTERFACE)
target_include_directories(ps_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
target_link_libraries(ps_flags INTERFACE ps_warnings)
target_compile_options(ps_flags INTERFACE -fno-math-errno -fno-trapping-math)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(ps_flags INTERFACE -march=x86-64-v2)
endif()
if(PS_SANITIZE)
  target_compile_options(ps_warnings INTERFACE -fsanitize=${PS_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(ps_warnings INTERFACE -fsanitize=${PS_SANITIZE})
endif()
if(PS_COVERAGE)
  target_compile_options(ps_warnings INTERFACE --coverage)
  target_link_options(ps_warnings INTERFACE --coverage)
endif()
