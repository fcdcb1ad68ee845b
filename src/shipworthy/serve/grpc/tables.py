"""The messages and services that we speak, as tables for ``messages``: names and field numbers are the protocols' own.

The Open Inference Protocol has the superset that Triton speaks; a field that only another dialect has stays empty.
"""

_INFERENCE = """
package inference
ServerLiveRequest
ServerLiveResponse: live=1 bool
ServerReadyRequest
ServerReadyResponse: ready=1 bool
ModelReadyRequest: name=1 string, version=2 string
ModelReadyResponse: ready=1 bool
ServerMetadataRequest
ServerMetadataResponse: name=1 string, version=2 string, extensions=3 *string
ModelMetadataRequest: name=1 string, version=2 string
ModelMetadataResponse: name=1 string, versions=2 *string, platform=3 string, inputs=4 *TensorMetadata,
 outputs=5 *TensorMetadata
ModelMetadataResponse.TensorMetadata: name=1 string, datatype=2 string, shape=3 *int64
InferParameter: bool_param=1 bool|parameter_choice, int64_param=2 int64|parameter_choice,
 string_param=3 string|parameter_choice, double_param=4 double|parameter_choice, uint64_param=5 uint64|parameter_choice
InferTensorContents: bool_contents=1 *bool, int_contents=2 *int32, int64_contents=3 *int64, uint_contents=4 *uint32,
 uint64_contents=5 *uint64, fp32_contents=6 *float, fp64_contents=7 *double, bytes_contents=8 *bytes
ModelInferRequest: model_name=1 string, model_version=2 string, id=3 string, parameters=4 map<string,InferParameter>,
 inputs=5 *InferInputTensor, outputs=6 *InferRequestedOutputTensor, raw_input_contents=7 *bytes
ModelInferRequest.InferInputTensor: name=1 string, datatype=2 string, shape=3 *int64,
 parameters=4 map<string,InferParameter>, contents=5 InferTensorContents
ModelInferRequest.InferRequestedOutputTensor: name=1 string, parameters=2 map<string,InferParameter>
ModelInferResponse: model_name=1 string, model_version=2 string, id=3 string, parameters=4 map<string,InferParameter>,
 outputs=5 *InferOutputTensor, raw_output_contents=6 *bytes
ModelInferResponse.InferOutputTensor: name=1 string, datatype=2 string, shape=3 *int64,
 parameters=4 map<string,InferParameter>, contents=5 InferTensorContents
ModelStreamInferResponse: error_message=1 string, infer_response=2 ModelInferResponse
enum DataType: TYPE_INVALID=0, TYPE_BOOL=1, TYPE_UINT8=2, TYPE_UINT16=3, TYPE_UINT32=4, TYPE_UINT64=5, TYPE_INT8=6,
 TYPE_INT16=7, TYPE_INT32=8, TYPE_INT64=9, TYPE_FP16=10, TYPE_FP32=11, TYPE_FP64=12, TYPE_STRING=13, TYPE_BF16=14
ModelInput: name=1 string, data_type=2 DataType, dims=4 *int64
ModelOutput: name=1 string, data_type=2 DataType, dims=3 *int64
ModelTransactionPolicy: decoupled=1 bool
ModelVersionPolicy: specific=3 Specific|policy_choice
ModelVersionPolicy.Specific: versions=1 *int64
ModelInstanceGroup: name=1 string, kind=4 Kind, count=2 int32
enum ModelInstanceGroup.Kind: KIND_AUTO=0, KIND_GPU=1, KIND_CPU=2, KIND_MODEL=3
ModelDynamicBatching: preferred_batch_size=1 *int32, max_queue_delay_microseconds=2 uint64
ModelParameter: string_value=1 string
ModelConfig: name=1 string, platform=2 string, backend=17 string, version_policy=3 ModelVersionPolicy,
 max_batch_size=4 int32, input=5 *ModelInput, output=6 *ModelOutput,
 dynamic_batching=11 ModelDynamicBatching|scheduling_choice, instance_group=7 *ModelInstanceGroup,
 parameters=14 map<string,ModelParameter>, model_transaction_policy=19 ModelTransactionPolicy
ModelConfigRequest: name=1 string, version=2 string
ModelConfigResponse: config=1 ModelConfig
ModelStatisticsRequest: name=1 string, version=2 string
StatisticDuration: count=1 uint64, ns=2 uint64
InferStatistics: success=1 StatisticDuration, fail=2 StatisticDuration, queue=3 StatisticDuration,
 compute_input=4 StatisticDuration, compute_infer=5 StatisticDuration, compute_output=6 StatisticDuration,
 cache_hit=7 StatisticDuration, cache_miss=8 StatisticDuration
InferBatchStatistics: batch_size=1 uint64, compute_input=2 StatisticDuration, compute_infer=3 StatisticDuration,
 compute_output=4 StatisticDuration
MemoryUsage: type=1 string, id=2 int64, byte_size=3 uint64
InferResponseStatistics: compute_infer=1 StatisticDuration, compute_output=2 StatisticDuration,
 success=3 StatisticDuration, fail=4 StatisticDuration, empty_response=5 StatisticDuration, cancel=6 StatisticDuration
ModelStatistics: name=1 string, version=2 string, last_inference=3 uint64, inference_count=4 uint64,
 execution_count=5 uint64, inference_stats=6 InferStatistics, batch_stats=7 *InferBatchStatistics,
 memory_usage=8 *MemoryUsage, response_stats=9 map<string,InferResponseStatistics>
ModelStatisticsResponse: model_stats=1 *ModelStatistics
RepositoryIndexRequest: repository_name=1 string, ready=2 bool
RepositoryIndexResponse: models=1 *ModelIndex
RepositoryIndexResponse.ModelIndex: name=1 string, version=2 string, state=3 string, reason=4 string
ModelRepositoryParameter: bool_param=1 bool|parameter_choice, int64_param=2 int64|parameter_choice,
 string_param=3 string|parameter_choice, bytes_param=4 bytes|parameter_choice
RepositoryModelLoadRequest: repository_name=1 string, model_name=2 string, parameters=3 map<string,ModelRepositoryParameter>
RepositoryModelLoadResponse:
RepositoryModelUnloadRequest: repository_name=1 string, model_name=2 string,
 parameters=3 map<string,ModelRepositoryParameter>
RepositoryModelUnloadResponse:
service GRPCInferenceService: ServerLive ServerLiveRequest ServerLiveResponse,
 ServerReady ServerReadyRequest ServerReadyResponse, ModelReady ModelReadyRequest ModelReadyResponse,
 ServerMetadata ServerMetadataRequest ServerMetadataResponse,
 ModelMetadata ModelMetadataRequest ModelMetadataResponse, ModelInfer ModelInferRequest ModelInferResponse,
 ModelStreamInfer *ModelInferRequest *ModelStreamInferResponse, ModelConfig ModelConfigRequest ModelConfigResponse,
 ModelStatistics ModelStatisticsRequest ModelStatisticsResponse,
 RepositoryIndex RepositoryIndexRequest RepositoryIndexResponse,
 RepositoryModelLoad RepositoryModelLoadRequest RepositoryModelLoadResponse,
 RepositoryModelUnload RepositoryModelUnloadRequest RepositoryModelUnloadResponse
"""

_WRAPPERS = """
package google.protobuf
Int64Value: value=1 int64
"""

_ANY = """
package google.protobuf
Any: type_url=1 string, value=2 bytes
"""

_TENSORFLOW_ERROR = """
package tensorflow.error
enum Code: OK=0, CANCELLED=1, UNKNOWN=2, INVALID_ARGUMENT=3, DEADLINE_EXCEEDED=4, NOT_FOUND=5, ALREADY_EXISTS=6,
 PERMISSION_DENIED=7, RESOURCE_EXHAUSTED=8, FAILED_PRECONDITION=9, ABORTED=10, OUT_OF_RANGE=11, UNIMPLEMENTED=12,
 INTERNAL=13, UNAVAILABLE=14, DATA_LOSS=15, UNAUTHENTICATED=16
"""

_TENSORFLOW = """
package tensorflow
enum DataType: DT_INVALID=0, DT_FLOAT=1, DT_DOUBLE=2, DT_INT32=3, DT_UINT8=4, DT_INT16=5, DT_INT8=6, DT_STRING=7,
 DT_COMPLEX64=8, DT_INT64=9, DT_BOOL=10, DT_QINT8=11, DT_QUINT8=12, DT_QINT32=13, DT_BFLOAT16=14, DT_QINT16=15,
 DT_QUINT16=16, DT_UINT16=17, DT_COMPLEX128=18, DT_HALF=19, DT_RESOURCE=20, DT_VARIANT=21, DT_UINT32=22, DT_UINT64=23
TensorShapeProto: dim=2 *Dim, unknown_rank=3 bool
TensorShapeProto.Dim: size=1 int64, name=2 string
TensorProto: dtype=1 DataType, tensor_shape=2 TensorShapeProto, version_number=3 int32, tensor_content=4 bytes,
 half_val=13 *int32, float_val=5 *float, double_val=6 *double, int_val=7 *int32, string_val=8 *bytes,
 int64_val=10 *int64, bool_val=11 *bool, uint32_val=16 *uint32, uint64_val=17 *uint64
TensorInfo: name=1 string, dtype=2 DataType, tensor_shape=3 TensorShapeProto
SignatureDef: inputs=1 map<string,TensorInfo>, outputs=2 map<string,TensorInfo>, method_name=3 string
BytesList: value=1 *bytes
FloatList: value=1 *float
Int64List: value=1 *int64
Feature: bytes_list=1 BytesList|kind, float_list=2 FloatList|kind, int64_list=3 Int64List|kind
Features: feature=1 map<string,Feature>
Example: features=1 Features
"""

_SERVING = """
package tensorflow.serving
ModelSpec: name=1 string, version=2 google.protobuf.Int64Value|version_choice, version_label=4 string|version_choice,
 signature_name=3 string
PredictRequest: model_spec=1 ModelSpec, inputs=2 map<string,TensorProto>, output_filter=3 *string
PredictResponse: model_spec=2 ModelSpec, outputs=1 map<string,TensorProto>
ExampleList: examples=1 *Example
ExampleListWithContext: examples=1 *Example, context=2 Example
Input: example_list=1 ExampleList|kind, example_list_with_context=2 ExampleListWithContext|kind
Class: label=1 string, score=2 float
Classifications: classes=1 *Class
ClassificationResult: classifications=1 *Classifications
ClassificationRequest: model_spec=1 ModelSpec, input=2 Input
ClassificationResponse: model_spec=2 ModelSpec, result=1 ClassificationResult
Regression: value=1 float
RegressionResult: regressions=1 *Regression
RegressionRequest: model_spec=1 ModelSpec, input=2 Input
RegressionResponse: model_spec=2 ModelSpec, result=1 RegressionResult
SignatureDefMap: signature_def=1 map<string,SignatureDef>
GetModelMetadataRequest: model_spec=1 ModelSpec, metadata_field=2 *string
GetModelMetadataResponse: model_spec=1 ModelSpec, metadata=2 map<string,google.protobuf.Any>
StatusProto: error_code=1 tensorflow.error.Code, error_message=2 string
GetModelStatusRequest: model_spec=1 ModelSpec
ModelVersionStatus: version=1 int64, state=2 State, status=3 StatusProto
enum ModelVersionStatus.State: UNKNOWN=0, START=10, LOADING=20, AVAILABLE=30, UNLOADING=40, END=50
GetModelStatusResponse: model_version_status=1 *ModelVersionStatus
FileSystemStoragePathSourceConfig:
FileSystemStoragePathSourceConfig.ServableVersionPolicy: latest=100 Latest|policy_choice, all=101 All|policy_choice,
 specific=102 Specific|policy_choice
FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest: num_versions=1 uint32
FileSystemStoragePathSourceConfig.ServableVersionPolicy.All:
FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific: versions=1 *int64
ModelConfig: name=1 string, base_path=2 string, model_platform=4 string,
 model_version_policy=7 FileSystemStoragePathSourceConfig.ServableVersionPolicy, version_labels=8 map<string,int64>
ModelConfigList: config=1 *ModelConfig
ModelServerConfig: model_config_list=1 ModelConfigList|config, custom_model_config=2 google.protobuf.Any|config
ReloadConfigRequest: config=1 ModelServerConfig
ReloadConfigResponse: status=1 StatusProto
service PredictionService: Classify ClassificationRequest ClassificationResponse,
 Regress RegressionRequest RegressionResponse, Predict PredictRequest PredictResponse,
 GetModelMetadata GetModelMetadataRequest GetModelMetadataResponse
service ModelService: GetModelStatus GetModelStatusRequest GetModelStatusResponse,
 HandleReloadConfigRequest ReloadConfigRequest ReloadConfigResponse
"""

_HEALTH = """
package grpc.health.v1
HealthCheckRequest: service=1 string
HealthCheckResponse: status=1 ServingStatus
enum HealthCheckResponse.ServingStatus: UNKNOWN=0, SERVING=1, NOT_SERVING=2, SERVICE_UNKNOWN=3
service Health: Check HealthCheckRequest HealthCheckResponse, Watch HealthCheckRequest *HealthCheckResponse
"""

_REFLECTION = """
package grpc.reflection.VERSION
ServerReflectionRequest: host=1 string, file_by_filename=3 string|message_request,
 file_containing_symbol=4 string|message_request, file_containing_extension=5 ExtensionRequest|message_request,
 all_extension_numbers_of_type=6 string|message_request, list_services=7 string|message_request
ExtensionRequest: containing_type=1 string, extension_number=2 int32
ServerReflectionResponse: valid_host=1 string, original_request=2 ServerReflectionRequest,
 file_descriptor_response=4 FileDescriptorResponse|message_response,
 all_extension_numbers_response=5 ExtensionNumberResponse|message_response,
 list_services_response=6 ListServiceResponse|message_response, error_response=7 ErrorResponse|message_response
FileDescriptorResponse: file_descriptor_proto=1 *bytes
ExtensionNumberResponse: base_type_name=1 string, extension_number=2 *int32
ListServiceResponse: service=1 *ServiceResponse
ServiceResponse: name=1 string
ErrorResponse: error_code=1 int32, error_message=2 string
service ServerReflection: ServerReflectionInfo *ServerReflectionRequest *ServerReflectionResponse
"""

FILES = {
    "google/protobuf/wrappers.proto": _WRAPPERS,
    "google/protobuf/any.proto": _ANY,
    "inference/grpc_service.proto": _INFERENCE,
    "tensorflow/error_codes.proto": _TENSORFLOW_ERROR,
    "tensorflow/core.proto": _TENSORFLOW,
    "tensorflow_serving/apis.proto": _SERVING,
    "grpc/health/v1/health.proto": _HEALTH,
    "grpc/reflection/v1/reflection.proto": _REFLECTION.replace("VERSION", "v1"),
    "grpc/reflection/v1alpha/reflection.proto": _REFLECTION.replace("VERSION", "v1alpha"),
}
