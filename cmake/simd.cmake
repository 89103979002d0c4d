# The vector loops are compiled once per instruction set; the device picks at run time.
set(PS_SIMD_FLAGS -O3 -fno-trapping-math -fno-math-errno -fopenmp-simd -ffp-contract=fast)
if(PS_SANITIZE MATCHES "address" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # With detect_stack_use_after_return, frames lie on a heap that is not aligned for vectors of 64 bytes (seen with gcc 12).
  list(APPEND PS_SIMD_FLAGS --param=asan-use-after-return=0)
endif()
set(PS_SIMD_DIR ${CMAKE_SOURCE_DIR}/src/backend/cpu)
set(PS_Q8_FLAGS ${PS_SIMD_FLAGS})
list(REMOVE_ITEM PS_Q8_FLAGS -ffp-contract=fast)
list(APPEND PS_Q8_FLAGS -ffp-contract=off)
set_source_files_properties(${PS_SIMD_DIR}/simd_base.c PROPERTIES COMPILE_OPTIONS "${PS_SIMD_FLAGS}")
set(PS_LOOPS_DIR ${CMAKE_SOURCE_DIR}/src/compress)
set_source_files_properties(${PS_SIMD_DIR}/int8_base.c ${PS_LOOPS_DIR}/loops_base.c PROPERTIES COMPILE_OPTIONS
  "${PS_Q8_FLAGS}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(${PS_SIMD_DIR}/simd_avx2.c PROPERTIES COMPILE_OPTIONS "${PS_SIMD_FLAGS};-march=x86-64-v3")
  set_source_files_properties(${PS_SIMD_DIR}/simd_avx512.c PROPERTIES COMPILE_OPTIONS
    "${PS_SIMD_FLAGS};-march=x86-64-v4;-mprefer-vector-width=512")
  set_source_files_properties(${PS_SIMD_DIR}/int8_avx2.c ${PS_LOOPS_DIR}/loops_avx2.c PROPERTIES COMPILE_OPTIONS
    "${PS_Q8_FLAGS};-march=x86-64-v3")
  set_source_files_properties(${PS_SIMD_DIR}/int8_avx512.c ${PS_LOOPS_DIR}/loops_avx512.c PROPERTIES COMPILE_OPTIONS
    "${PS_Q8_FLAGS};-march=x86-64-v4;-mprefer-vector-width=512")
  set_source_files_properties(${PS_SIMD_DIR}/int8_vnni.c PROPERTIES COMPILE_OPTIONS
    "${PS_Q8_FLAGS};-march=x86-64-v4;-mavx512vnni;-mprefer-vector-width=512")
else()
  set_source_files_properties(${PS_SIMD_DIR}/simd_avx2.c ${PS_SIMD_DIR}/simd_avx512.c ${PS_SIMD_DIR}/int8_avx2.c
    ${PS_SIMD_DIR}/int8_avx512.c ${PS_SIMD_DIR}/int8_vnni.c ${PS_LOOPS_DIR}/loops_avx2.c
    ${PS_LOOPS_DIR}/loops_avx512.c PROPERTIES HEADER_FILE_ONLY ON)
endif()
