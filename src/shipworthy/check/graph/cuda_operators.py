"""The operators for which onnxruntime's CUDA provider has kernels: a dated table, by domain.

Source: docs/OperatorKernels.md of github.com/microsoft/onnxruntime, which is made from its registry; commit 001d12d, read on
2026-11-28. Versions and types of single operators are left out: what is in here can still be left to the CPU.
"""

from __future__ import annotations

TABLE = "onnxruntime, commit 001d12d, read 2026-11-28"
# Constants are weights before nodes are shared out.
_STANDARD = """
Abs Add Affine And ArgMax ArgMin Attention AveragePool BatchNormalization Cast Ceil Clip Compress Concat ConcatFromSequence
Constant ConstantOfShape Conv ConvTranspose Cos Crop CumSum DepthToSpace DequantizeLinear Div Dropout DynamicSlice Einsum Elu
Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool
Greater GreaterOrEqual GridSample HardSigmoid HardSwish Identity If ImageScaler InstanceNormalization IsInf IsNaN LRN LSTM
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop MatMul MatMulInteger Max MaxPool Min Mod Mul Neg NonZero Not
OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round ScaledTanh Scan Scatter
ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape
Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
Sum Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
_CONTRIB = """
Attention BeamSearch BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu BitmaskBiasDropout BitmaskDropout ComplexMul
ComplexMulConj ConvTransposeWithDynamicPads DecoderAttention DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention
DequantizeLinear DequantizeWithOrder DynamicTimeWarping EmbedLayerNormalization FastGelu FusedConv FusedMatMul
GatedRelativePositionBias GatherBlockQuantized Gelu GemmFloat8 GemmaRotaryEmbedding GreedySearch GridSample GroupNorm
GroupQueryAttention Inverse Irfft LongformerAttention MatMulBnb4 MatMulNBits MoE MultiHeadAttention NGramRepeatBlock NhwcConv
PackedAttention PackedMultiHeadAttention PagedAttention QAttention QMoE QOrderedAttention QOrderedGelu
QOrderedLayerNormalization QOrderedLongformerAttention QOrderedMatMul QuantizeLinear QuantizeWithOrder QuickGelu
RelativePositionBias RemovePadding RestorePadding Rfft RotaryEmbedding Sampling SkipGroupNorm SkipLayerNormalization
SkipSimplifiedLayerNormalization SparseAttention TransposeMatMul Trilu UnfoldTensor WhisperBeamSearch
"""
KERNELS = {"": frozenset(_STANDARD.split()), "com.microsoft": frozenset(_CONTRIB.split())}
