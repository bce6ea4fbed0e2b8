"""OpenVINO on a CPU: the graph of a module, in the precision that it is compiled for."""

import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from inference.text.encoder.runtimes import BATCH_TOKENS, SMOOTHING, Batch

if TYPE_CHECKING:  # importing torch takes a second, which a graph that was kept does without
    import torch


class OpenVINORuntime:
    """OpenVINO on a CPU: two batches at once, each on its own core.

    Parameters
    ----------
    graph : openvino.Model
        As ``traced``, ``quantised`` or ``read_graph`` answer.
    name : str
        ``openvino-float32``, ``openvino-bfloat16`` or ``openvino-int8``.
    """

    def __init__(self, graph, name: str) -> None:
        openvino = _openvino()
        self.name, self.graph, self.device = name, graph, "cpu"
        self.batch_tokens = BATCH_TOKENS[self.device]
        precision = "f32" if name == "openvino-float32" else "bf16"
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        self._compiled = openvino.Core().compile_model(graph, "CPU", hints)
        self._queue = openvino.AsyncInferQueue(self._compiled)
        self._busy = Lock()

    def embed(self, batches: Iterator[tuple[np.ndarray, Batch]], result: np.ndarray) -> None:
        """See ``Runtime``."""

        def keep(request, rows: np.ndarray) -> None:
            result[rows] = request.get_output_tensor(0).data

        # the queue has one callback: of two threads each waits for the other's vectors to be kept
        with self._busy:
            self._queue.set_callback(keep)
            try:
                for rows, batch in batches:
                    self._queue.start_async(dict(batch), rows)
            finally:
                self._queue.wait_all()


def traced(module: "torch.nn.Module"):
    """OpenVINO's graph of a module ``forward(input_ids, attention_mask)``, for batches of any shape."""
    import torch

    openvino = _openvino()
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    tokens = torch.ones((2, 8), dtype=torch.long)
    example = {"input_ids": tokens, "attention_mask": tokens}
    shape, whole = openvino.PartialShape([-1, -1]), openvino.Type.i64
    # tracing tells of every shape that it takes to be fixed, and would try itself out; the runtime has to prove its
    # vectors in any case
    with _eager_attention(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=example, trace_kwargs={"check_trace": False})
        inputs = [("input_ids", shape, whole), ("attention_mask", shape, whole)]
        return openvino.convert_model(decoder, example_input=example, input=inputs)


def quantised(module: "torch.nn.Module", calibration: Sequence[Batch]):
    """OpenVINO's graph of a module in 8-bit integers, by NNCF's calibration after training.

    Parameters
    ----------
    module : Module
        Is traced, not changed.
    calibration : sequence of Batch
        Texts whose activations set the scales.
    """
    import logging

    _openvino()
    import nncf

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset(list(calibration), dict)
    smoothing = nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING)
    with redirect_stdout(io.StringIO()):  # its progress bars show in log files as well
        return nncf.quantize(
            traced(module),
            data,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=smoothing),
        )


def save_graph(graph, file: Path) -> None:
    """Write a graph, whole or not at all, as ``file`` and its weights beside it, which end in ``.bin``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}.partial.xml")
    _openvino().save_model(graph, beside, compress_to_fp16=False)
    # the weights first: whoever finds the graph finds them
    beside.with_suffix(".bin").replace(file.with_suffix(".bin"))
    beside.replace(file)


def read_graph(file: Path):
    """Read what ``save_graph`` wrote."""
    return _openvino().Core().read_model(file)


def _openvino() -> ModuleType:
    """Import OpenVINO as if the library that tells its makers of every import and conversion were not installed."""
    sys.modules["openvino_telemetry"] = None
    import openvino

    return openvino


@contextmanager
def _eager_attention(module: "torch.nn.Module") -> Iterator[None]:
    """Write attention out in plain operations, as tracing needs it, within a block."""
    from transformers import PreTrainedModel

    models = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
    usual = [model.config._attn_implementation for model in models]
    for model in models:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model, name in zip(models, usual, strict=True):
            model.set_attn_implementation(name)
