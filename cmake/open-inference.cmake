# proto/open_inference.proto → open_inference.pb-c.{h,c}, at build time. The text is ours; nothing generated is committed.
set(PS_OIP_PROTO ${CMAKE_SOURCE_DIR}/proto/open_inference.proto)
set(PS_OIP_PROTO_DIR ${CMAKE_BINARY_DIR}/open-inference)
set(PS_OIP_PROTO_C ${PS_OIP_PROTO_DIR}/open_inference.pb-c.c)
file(MAKE_DIRECTORY ${PS_OIP_PROTO_DIR})
add_custom_command(OUTPUT ${PS_OIP_PROTO_C} ${PS_OIP_PROTO_DIR}/open_inference.pb-c.h
  COMMAND ${PS_PROTOC_C} --proto_path=${CMAKE_SOURCE_DIR}/proto --c_out=${PS_OIP_PROTO_DIR} open_inference.proto
  DEPENDS ${PS_OIP_PROTO} VERBATIM)
# Not our code: our warnings do not apply to it.
set_source_files_properties(${PS_OIP_PROTO_C} PROPERTIES COMPILE_OPTIONS "-w")
