"""A checkpoint as one ONNX file that runs anywhere: from a waveform to both heads.

    python -m ser_protocol.export CHECKPOINT [--format onnx] [--quantize int8] [--output FILE]

Inputs: `input_values` (batch, samples), float32, mono at the model's sampling rate, and `attention_mask` (batch,
samples), int64, 1 on real samples. Outputs, of these what the model has: `logits` (batch, emotions), `gender_logits`
(batch, genders), `co_attention_weights` (batch, heads, encoder frames), 0 behind a clip. Any number of clips of any
length up to `max_samples`; the features are part of the graph. What a reader needs beside is in the file's metadata:
`id2label` and `id2gender` (JSON), `sampling_rate` (Hz), `max_samples`, `license`, `format_version` and
`weights_sha256`, which the function of that name makes of `safetensors.torch.load_file("model.safetensors")`, too.

`--quantize int8` stores the weights of the matrix products in 8 bits and quantises what they multiply as it comes
(dynamic quantisation). examples/onnx_predict.py runs the file with onnxruntime alone.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.export import Dim
from transformers import AutoConfig

from modeling_camulenet import CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification

from .predict import check_camulenet

try:
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxscript import opset20 as op
except ImportError as error:
    raise ImportError(f"The export needs its extra: pip install camulenet[export] ({error}).") from error

OUTPUTS = ("logits", "gender_logits", "co_attention_weights")
OPSET = 20
# The graph is traced for clips of a second and more; shorter ones are padded to it, and masked there.
MIN_SAMPLES = 16000
TRACED_SAMPLES = 2 * MIN_SAMPLES + 123
MAX_UNLIMITED = 2**22  # samples, of an encoder that reads a clip at once: 262 s
WHISPER_SAMPLES = 480000  # longer clips run in windows, in a loop that a graph has not
MAX_BATCH = 4096
TOLERANCE = 1e-4  # of the logits and weights against PyTorch
PRODUCTS = ["MatMul", "Gemm"]
LINEAR_LAYER = "torch.nn.modules.linear.Linear"  # in what the exporter says of where a node is from


class ExportError(ValueError):
    """A checkpoint that cannot be exported; the message says why."""


# ---------------------------------------------------------------------------------------------------------------------
# torch.export unrolls a GRU over the frames of its example. As an operation of its own it stays one.


@torch.library.custom_op("camulenet::gru", mutates_args=())
def _gru(
    frames: torch.Tensor,
    input_weight: torch.Tensor,
    weight: torch.Tensor,
    input_bias: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    state = frames.new_zeros(1, frames.shape[0], weight.shape[1])
    weights = [input_weight, weight, input_bias, bias]
    return torch.gru(frames, state, weights, True, 1, 0.0, False, False, True)[0]


@_gru.register_fake
def _(frames, input_weight, weight, input_bias, bias):
    return frames.new_empty(frames.shape[0], frames.shape[1], weight.shape[1])


class _ExportedGRU(nn.Module):
    def __init__(self, gru: nn.GRU):
        super().__init__()
        if gru.num_layers != 1 or gru.bidirectional or not gru.batch_first:
            raise ExportError("Only a GRU of one layer and direction, batch first, can be exported.")
        self.weights = nn.ParameterList([gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0])

    def forward(self, frames):
        return torch.ops.camulenet.gru(frames, *self.weights), None


def _onnx_gru(frames, input_weight, weight, input_bias, bias):
    """PyTorch orders the gates reset, update, new, and ONNX update, reset, new."""

    def reordered(tensor):
        reset, update, new = op.Split(tensor, num_outputs=3, axis=0)
        return op.Concat(update, reset, new, axis=0)

    first, second = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    hidden, _ = op.GRU(
        op.Transpose(frames, perm=[1, 0, 2]),
        op.Unsqueeze(reordered(input_weight), first),
        op.Unsqueeze(reordered(weight), first),
        op.Unsqueeze(op.Concat(reordered(input_bias), reordered(bias), axis=0), first),
        hidden_size=weight.shape[1],
        linear_before_reset=1,
    )
    return op.Transpose(op.Squeeze(hidden, second), perm=[1, 0, 2])


def _onnx_fft(frames, dim, normalization, onesided):
    """onnxruntime's DFT loses the quiet bins beside loud ones; as a matrix product they are as exact as PyTorch's."""
    size = frames.shape[-1]
    if list(dim) not in ([-1], [len(frames.shape) - 1]) or normalization or not onesided:
        raise ExportError("Only the one-sided Fourier transform of the last axis can be exported.")
    angles = 2 * np.pi / size * (np.outer(np.arange(size), np.arange(size // 2 + 1)) % size)
    parts = [
        op.Unsqueeze(op.MatMul(frames, _constant(matrix)), op.Constant(value_ints=[-1]))
        for matrix in (np.cos(angles), -np.sin(angles))
    ]
    return op.Concat(*parts, axis=-1)


def _constant(values: np.ndarray):
    return op.Constant(value=onnx.numpy_helper.from_array(values.astype(np.float32)))


TRANSLATIONS = {torch.ops.camulenet.gru.default: _onnx_gru, torch.ops.aten._fft_r2c.default: _onnx_fft}


# ---------------------------------------------------------------------------------------------------------------------


class _FromWaveform(nn.Module):
    """The outputs that a graph has, as a tuple."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor):
        outputs = self.model(input_values=input_values, attention_mask=attention_mask)
        return tuple(outputs[name] for name in OUTPUTS if outputs.get(name) is not None)


def export(checkpoint: str | Path, output: Path, quantize: str | None = None) -> dict:
    """
    Write a checkpoint as an ONNX file.

    Args:
        checkpoint: its folder or Hub id. The code is this package's own, whatever the checkpoint ships.
        output: the file.
        quantize: `"int8"`, or `None` for float32.
    Returns:
        `megabytes` (10^6 bytes) and `difference`, how far its outputs are from PyTorch's at most on some noise.
    Raises:
        OSError, RuntimeError, ValueError: it cannot be loaded, or is none of CAMuLeNet.
        ExportError: its operations cannot be exported, or its float32 outputs differ from PyTorch's.
    """
    check_camulenet(checkpoint, AutoConfig.from_pretrained(checkpoint))
    model = CAMuLeNetForAudioClassification.from_pretrained(checkpoint).eval()
    limit = max_samples(model.config)
    about = metadata(checkpoint, model, limit)  # of the checkpoint's weights, before they get other names and types
    model.float()
    expected = {shape: _run_torch(model, shape) for shape in _check_shapes(limit)}
    _replace_grus(model)
    graph = _traced(model, limit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exact = exact_products(graph)
        for node in graph.graph.node:
            del node.metadata_props[:]  # paths of this machine among them
        onnx.save(with_padding(graph), path)
        if quantize == "int8":
            quantized = Path(folder) / "int8.onnx"
            with _quiet():
                quantize_dynamic(
                    path,
                    quantized,
                    op_types_to_quantize=PRODUCTS,
                    nodes_to_exclude=exact,
                    weight_type=QuantType.QInt8,
                )
            path = quantized
        graph = onnx.load(path)
        onnx.helper.set_model_props(graph, about)
        onnx.save(graph, path)
        session = onnxruntime.InferenceSession(path)
        difference = max(
            float(np.abs(ours - theirs).max())
            for (inputs, outputs) in expected.values()
            for ours, theirs in zip(session.run(None, inputs), outputs, strict=True)
        )
        if quantize is None and not difference <= TOLERANCE:
            raise ExportError(
                f"The graph's outputs differ from PyTorch's by {difference:.1e}, more than {TOLERANCE:g}; nothing is "
                "written."
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(path.read_bytes())
    return {"megabytes": output.stat().st_size / 1e6, "difference": difference}


def max_samples(config) -> int:
    """The longest clip that the graph takes."""
    whisper = config.has_encoder and config.encoder_config.model_type == "whisper"
    limit = WHISPER_SAMPLES if whisper else MAX_UNLIMITED
    extractor = CAMuLeNetFeatureExtractor.from_model_config(config)
    if extractor.max_duration_s is not None:  # what lies behind is not read
        limit = min(limit, round(extractor.max_duration_s * extractor.sampling_rate))
    return limit


def metadata(checkpoint: str | Path, model, limit: int) -> dict[str, str]:
    """What the file says of itself."""
    config = model.config
    card = Path(checkpoint) / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    licenses = [line.split(":", 1)[1].strip() for line in lines if line.startswith("license:")]
    return {
        "model_type": config.model_type,
        "format_version": str(config.format_version),
        "camulenet_version": str(config.camulenet_version),
        "id2label": json.dumps(config.id2label, ensure_ascii=False),
        "id2gender": json.dumps(config.id2gender, ensure_ascii=False),
        "sampling_rate": str(model.camulenet.feature_extractor.sampling_rate),
        "max_samples": str(limit),
        "license": licenses[0] if licenses else "see the checkpoint's card",
        "weights_sha256": weights_sha256(model.state_dict()),
    }


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over name (UTF-8) and values (as a safetensors file has them) of each weight, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_shapes(limit: int) -> tuple[tuple[int, ...], ...]:
    """Lengths of the clips of some batches: a sample, a fraction of a second, several at once, and a long one."""
    return (1,), (4000,), (9000, 24001, min(limit, 50000)), (min(limit, 20 * MIN_SAMPLES),)


def _run_torch(model, lengths: tuple[int, ...]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Inputs and outputs of a batch of noise."""
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    values = 0.1 * torch.randn(mask.shape, generator=generator) * mask
    # As in the graph: so long that the weights have as many frames.
    padding = (0, max(MIN_SAMPLES - mask.shape[1], 0))
    with torch.inference_mode():
        outputs = _FromWaveform(model)(nn.functional.pad(values, padding), nn.functional.pad(mask, padding))
    return {"input_values": values.numpy(), "attention_mask": mask.numpy()}, [output.numpy() for output in outputs]


def _replace_grus(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GRU):
                setattr(module, name, _ExportedGRU(child))


def _traced(model, limit: int) -> "onnx.ModelProto":
    """The graph of clips of `MIN_SAMPLES` to `limit` samples."""
    if limit < TRACED_SAMPLES:
        raise ExportError(
            f"The model reads no more than {limit} samples of a clip (`max_duration_s`); the graph is traced with "
            f"{TRACED_SAMPLES}."
        )
    values = torch.zeros(2, TRACED_SAMPLES)
    mask = torch.ones(values.shape, dtype=torch.long)
    axes = {0: Dim("batch", max=MAX_BATCH), 1: Dim("samples", min=MIN_SAMPLES, max=limit)}
    with torch.inference_mode():
        outputs = model(input_values=values, attention_mask=mask)
    names = [name for name in OUTPUTS if outputs.get(name) is not None]
    try:
        with _quiet():
            program = torch.export.export(
                _FromWaveform(model).eval(),
                (values, mask),
                dynamic_shapes=(axes, axes),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            return torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                custom_translation_table=TRANSLATIONS,
                input_names=["input_values", "attention_mask"],
                output_names=names,
                verbose=False,
            ).model_proto
    except Exception as error:  # torch.export has no common base of its errors
        raise ExportError(
            f"This model cannot be exported: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        ) from error


def exact_products(graph: "onnx.ModelProto") -> list[str]:
    """Names of the matrix products that are no linear layers: the Fourier transform and the mel filters among them."""
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in PRODUCTS and not any(LINEAR_LAYER in prop.value for prop in node.metadata_props)
    ]


def with_padding(graph: "onnx.ModelProto") -> "onnx.ModelProto":
    """The graph behind operations that pad both inputs to `MIN_SAMPLES` with 0."""
    make = onnx.helper.make_node
    constants = {"one": [1], "minimum": [MIN_SAMPLES], "zero": [0], "zeros": [0, 0, 0]}
    nodes = [make("Constant", [], [f"padding_{name}"], value_ints=values) for name, values in constants.items()] + [
        make("Shape", ["input_values"], ["padding_shape"]),
        make("Gather", ["padding_shape", "padding_one"], ["padding_samples"]),
        make("Sub", ["padding_minimum", "padding_samples"], ["padding_difference"]),
        make("Max", ["padding_difference", "padding_zero"], ["padding_missing"]),
        make("Concat", ["padding_zeros", "padding_missing"], ["padding_pads"], axis=0),
        make("Pad", ["input_values", "padding_pads"], ["padded_values"]),
        make("Pad", ["attention_mask", "padding_pads"], ["padded_mask"]),
    ]
    renamed = {"input_values": "padded_values", "attention_mask": "padded_mask"}
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    body = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *body])
    del graph.graph.value_info[:]  # of shapes before the padding
    return graph


@contextlib.contextmanager
def _quiet():
    """Without the warnings and the progress of exporter and quantiser."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    """Console entry."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_protocol.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a checkpoint's folder or Hub id")
    parser.add_argument("--format", choices=["onnx"], default="onnx")
    parser.add_argument("--quantize", choices=["int8"], help="smaller, and a little less exact")
    parser.add_argument("--output", type=Path, help="default: model.onnx or model_int8.onnx in the checkpoint")
    arguments = parser.parse_args()
    name = f"model{'_int8' if arguments.quantize else ''}.onnx"
    output = arguments.output or Path(arguments.checkpoint) / name
    if arguments.output is None and not Path(arguments.checkpoint).is_dir():
        parser.error("--output says where the file of a model of the Hub goes")
    try:
        written = export(arguments.checkpoint, output, arguments.quantize)
    except (ValueError, RuntimeError, OSError, SafetensorError) as error:
        sys.exit(f"export: {error}")
    print(
        f"{output}: {written['megabytes']:.1f} MB; its outputs are within {written['difference']:.1e} of PyTorch's "
        "on batches of noise."
    )


if __name__ == "__main__":
    main()
