# onnx.proto → onnx.pb-c.{h,c}, at configure time. tools/fetch-onnx-schema gets the schema (pinned wheel, hash checked; the
# system's copy is the offline fallback); protoc-c turns it into C. Nothing generated is committed.
set(PS_ONNX_PROTO_DIR ${CMAKE_BINARY_DIR}/onnx-schema)
set(PS_ONNX_PROTO_C ${PS_ONNX_PROTO_DIR}/onnx.pb-c.c)

find_program(PS_PROTOC_C NAMES protoc-c REQUIRED)
find_program(PS_PYTHON3 NAMES python3 REQUIRED)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/fetch-onnx-schema)

execute_process(COMMAND ${PS_PYTHON3} ${CMAKE_SOURCE_DIR}/tools/fetch-onnx-schema ${PS_ONNX_PROTO_DIR}
  RESULT_VARIABLE result OUTPUT_VARIABLE origin OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "No ONNX schema (see the line above)")
endif()
if(NOT origin STREQUAL "pinned")
  message(NOTICE "polestar: built with the system's ONNX schema, not the pinned one")
endif()

if(NOT EXISTS ${PS_ONNX_PROTO_C} OR ${PS_ONNX_PROTO_DIR}/onnx.proto IS_NEWER_THAN ${PS_ONNX_PROTO_C})
  execute_process(COMMAND ${PS_PROTOC_C} --proto_path=${PS_ONNX_PROTO_DIR} --c_out=${PS_ONNX_PROTO_DIR} onnx.proto
    RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "protoc-c could not compile ${PS_ONNX_PROTO_DIR}/onnx.proto")
  endif()
endif()
# Not our code: our warnings do not apply to it.
set_source_files_properties(${PS_ONNX_PROTO_C} PROPERTIES COMPILE_OPTIONS "-w")
