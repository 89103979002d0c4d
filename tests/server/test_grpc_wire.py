"""proto/open_inference.proto beside the descriptors that tritonclient carries: our messages have our names, but each field must
have the number and the type that it has there."""

import shutil
import subprocess

import pytest
from conftest import TOP
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2

# Ours: theirs. What only our messages have in common with theirs is checked field by field.
SAME = {
    "ModelRef": ["ModelReadyRequest", "ModelMetadataRequest", "ModelConfigRequest", "ModelStatisticsRequest"],
    "ServerMetadata": ["ServerMetadataResponse"],
    "TensorMetadata": ["ModelMetadataResponse.TensorMetadata"],
    "ModelMetadata": ["ModelMetadataResponse"],
    "Latest": ["ModelVersionPolicy.Latest"], "VersionPolicy": ["ModelVersionPolicy"],
    "All": ["ModelVersionPolicy.All"], "Specific": ["ModelVersionPolicy.Specific"],
    "ConfigInput": ["ModelInput"], "ConfigOutput": ["ModelOutput"],
    "SequenceState": ["ModelSequenceBatching.State"], "SequenceBatching": ["ModelSequenceBatching"],
    "ModelConfig": ["ModelConfig"], "ModelConfigReply": ["ModelConfigResponse"],
    "Duration": ["StatisticDuration"], "InferStatistics": ["InferStatistics"], "BatchStatistics": ["InferBatchStatistics"],
    "MemoryUsage": ["MemoryUsage"], "ModelStatistics": ["ModelStatistics"], "ModelStatisticsReply": ["ModelStatisticsResponse"],
    "DynamicBatching": ["ModelDynamicBatching"], "ConfigText": ["ModelParameter"],
    "ConfigParameter": ["ModelConfig.ParametersEntry"],
    "IndexRequest": ["RepositoryIndexRequest"], "IndexEntry": ["RepositoryIndexResponse.ModelIndex"],
    "IndexReply": ["RepositoryIndexResponse"],
    "RegionRef": ["SystemSharedMemoryStatusRequest", "SystemSharedMemoryUnregisterRequest", "CudaSharedMemoryStatusRequest"],
    "Region": ["SystemSharedMemoryRegisterRequest", "SystemSharedMemoryStatusResponse.RegionStatus"],
    "RegionEntry": ["SystemSharedMemoryStatusResponse.RegionsEntry"], "RegionsReply": ["SystemSharedMemoryStatusResponse"],
    "TraceValue": ["TraceSettingRequest.SettingValue", "TraceSettingResponse.SettingValue"],
    "TraceEntry": ["TraceSettingRequest.SettingsEntry", "TraceSettingResponse.SettingsEntry"],
    "TraceRequest": ["TraceSettingRequest"], "TraceReply": ["TraceSettingResponse"],
    "LogValue": ["LogSettingsRequest.SettingValue", "LogSettingsResponse.SettingValue"],
    "LogEntry": ["LogSettingsRequest.SettingsEntry", "LogSettingsResponse.SettingsEntry"],
    "LogSettings": ["LogSettingsRequest", "LogSettingsResponse"],
    "LoadRequest": ["RepositoryModelLoadRequest", "RepositoryModelUnloadRequest"],
    "NamedValue": ["RepositoryModelLoadRequest.ParametersEntry"],
    "Flag": ["ServerLiveResponse", "ServerReadyResponse", "ModelReadyResponse"],
}
OTHER_NAMES = {"Flag": {"value"}, "LoadRequest": {"first", "second"}}  # fields that are called otherwise there
NOT_THERE = {"Empty", "LoadReply", "HealthRequest", "HealthReply"}     # of kserve's shape, of grpc.health.v1


def theirs(name):
    file = model_config_pb2 if name.split(".")[0] in model_config_pb2.DESCRIPTOR.message_types_by_name else service_pb2
    first, *rest = name.split(".")
    found = file.DESCRIPTOR.message_types_by_name[first]
    for part in rest:
        found = found.nested_types_by_name[part]
    return found


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    protoc = shutil.which("protoc")
    if not protoc:
        pytest.skip("protoc is not installed")
    out = tmp_path_factory.mktemp("proto") / "set"
    subprocess.run([protoc, f"--proto_path={TOP / 'proto'}", f"--descriptor_set_out={out}", "open_inference.proto"], check=True)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return pool.FindFileByName("open_inference.proto").message_types_by_name


def wire_kind(field):
    """Enums travel as the int32 that we call them."""
    return FieldDescriptor.TYPE_INT32 if field.type == FieldDescriptor.TYPE_ENUM else field.type


def test_every_message_is_known(ours):
    assert set(ours) == set(SAME) | NOT_THERE


@pytest.mark.parametrize("name", SAME)
def test_fields(ours, name):
    for other in SAME[name]:
        there = theirs(other)
        for field in ours[name].fields:
            same = there.fields_by_number.get(field.number)
            assert same is not None, f"{other} has no field {field.number}"
            assert wire_kind(same) == wire_kind(field) and same.is_repeated == field.is_repeated, (other, field.name)
            if field.name not in OTHER_NAMES.get(name, ()):
                assert same.name == field.name, (other, field.name)
