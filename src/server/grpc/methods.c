/* The methods and how they are served. */
#include "server/grpc/handlers.h"

#define INFERENCE(name) "/inference.GRPCInferenceService/" name
#define REPOSITORY(name) "/inference.model_repository.ModelRepositoryService/" name

const ps_method ps_methods[] = {
    { INFERENCE("ModelInfer"), ps_grpc_handle_infer, 128, false, false },
    { INFERENCE("ModelStreamInfer"), ps_grpc_handle_stream, 16, true, false },
    { INFERENCE("ServerLive"), ps_grpc_handle_live, 4, false, true },
    { INFERENCE("ServerReady"), ps_grpc_handle_ready, 4, false, true },
    { INFERENCE("ModelReady"), ps_grpc_handle_model_ready, 4, false, false },
    { INFERENCE("ServerMetadata"), ps_grpc_handle_server, 4, false, false },
    { INFERENCE("ModelMetadata"), ps_grpc_handle_metadata, 4, false, false },
    { INFERENCE("ModelConfig"), ps_grpc_handle_config, 4, false, false },
    { INFERENCE("ModelStatistics"), ps_grpc_handle_stats, 4, false, false },
    { INFERENCE("RepositoryIndex"), ps_grpc_handle_index, 2, false, false },
    { INFERENCE("RepositoryModelLoad"), ps_grpc_handle_load, 2, false, false },
    { INFERENCE("RepositoryModelUnload"), ps_grpc_handle_unload, 2, false, false },
    { INFERENCE("SystemSharedMemoryStatus"), ps_grpc_handle_shm_status, 2, false, false },
    { INFERENCE("SystemSharedMemoryRegister"), ps_grpc_handle_shm_register, 2, false, false },
    { INFERENCE("SystemSharedMemoryUnregister"), ps_grpc_handle_shm_unregister, 2, false, false },
    { INFERENCE("CudaSharedMemoryStatus"), ps_grpc_handle_cuda_status, 2, false, false },
    { INFERENCE("CudaSharedMemoryRegister"), ps_grpc_handle_cuda_register, 2, false, false },
    { INFERENCE("CudaSharedMemoryUnregister"), ps_grpc_handle_cuda_unregister, 2, false, false },
    { INFERENCE("TraceSetting"), ps_grpc_handle_trace, 2, false, false },
    { INFERENCE("LogSettings"), ps_grpc_handle_log, 2, false, false },
    { REPOSITORY("RepositoryIndex"), ps_grpc_handle_index, 2, false, false },
    { REPOSITORY("RepositoryModelLoad"), ps_grpc_handle_load, 2, false, false },
    { REPOSITORY("RepositoryModelUnload"), ps_grpc_handle_unload, 2, false, false },
    { "/grpc.health.v1.Health/Check", ps_grpc_handle_health, 4, false, true },
};

const size_t ps_method_count = sizeof ps_methods / sizeof *ps_methods;
