# onnx.proto → onnx.pb-c.{h,c}. proto/onnx.proto is fetched at build time by tools/fetch-onnx-schema (pinned wheel, hash
# checked); the system's onnx schema is the offline fallback.
set(PS_ONNX_PROTO_DIR ${CMAKE_BINARY_DIR}/onnx-schema)
set(PS_ONNX_PROTO_C)
