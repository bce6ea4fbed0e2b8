"""Embeddings by OpenVINO on a CPU: tracing, quantisation, saving and running of a model's graph."""

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from inference.text.encoder.runtimes import BATCH_TOKENS, SMOOTHING
from inference.text.encoder.tokenizer import Batch

if TYPE_CHECKING:  # importing them takes seconds, which running a saved graph with torch does without
    import openvino
    import torch

#: ``CI`` belongs to the process: one thread sets and restores it at a time.
_asking = Lock()


class OpenVINORuntime:
    """Computes embeddings with OpenVINO, several batches at once, each on its own core.

    The name, ``openvino-float32``, ``openvino-bfloat16`` or ``openvino-int8``, decides the precision.
    """

    def __init__(self, graph: "openvino.Model", name: str) -> None:
        self.name, self.graph, self.device = name, graph, "cpu"
        self.batch_tokens = BATCH_TOKENS[self.device]
        precision = "f32" if name == "openvino-float32" else "bf16"
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        compiled = _openvino().Core().compile_model(graph, "CPU", hints)
        self._queue = _openvino().AsyncInferQueue(compiled)
        self._busy = Lock()

    def embed(self, batches: Iterator[tuple[np.ndarray, Batch]], result: np.ndarray) -> None:
        """See ``Runtime``."""

        def store(request: "openvino.InferRequest", rows: np.ndarray) -> None:
            result[rows] = request.get_output_tensor(0).data

        # the queue has one callback, so only one thread may use it at a time
        with self._busy:
            self._queue.set_callback(store)
            try:
                for rows, batch in batches:
                    self._queue.start_async(dict(batch), rows)
            finally:
                self._queue.wait_all()


def traced(module: "torch.nn.Module") -> "openvino.Model":
    """Trace a module ``forward(input_ids, attention_mask)`` into a graph for batches of any shape."""
    import torch

    openvino = _openvino()
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    tokens = torch.ones((2, 8), dtype=torch.long)
    example = {"input_ids": tokens, "attention_mask": tokens}
    shape, integer = openvino.PartialShape([-1, -1]), openvino.Type.i64
    # no warnings about fixed shapes and no check of the trace: the choice of a runtime compares vectors
    with _eager_attention(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=example, trace_kwargs={"check_trace": False})
        inputs = [("input_ids", shape, integer), ("attention_mask", shape, integer)]
        with _no_telemetry():
            return openvino.convert_model(decoder, example_input=example, input=inputs)


def quantised(module: "torch.nn.Module", calibration: Sequence[Batch]) -> "openvino.Model":
    """Return a module's graph in 8-bit integers, whose scales NNCF sets by the activations of calibration texts."""
    graph = traced(module)  # before NNCF, which uses the telemetry of OpenVINO as it is then
    import nncf

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset(list(calibration), dict)
    smoothing = nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING)
    with redirect_stdout(io.StringIO()):  # its progress bars would end up in log files
        return nncf.quantize(
            graph,
            data,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=smoothing),
        )


def save_graph(graph: "openvino.Model", file: Path) -> None:
    """Write a graph to ``file``, which ends in ``.xml``, and its weights to the same path ending in ``.bin``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial.xml")
    _openvino().save_model(graph, partial, compress_to_fp16=False)
    # the weights first, so that a process that sees the graph sees its weights
    partial.with_suffix(".bin").replace(file.with_suffix(".bin"))
    partial.replace(file)


def read_graph(file: Path) -> "openvino.Model":
    """Read what ``save_graph`` wrote."""
    return _openvino().Core().read_model(file)


def _openvino() -> ModuleType:
    with _no_telemetry():
        import openvino
    return openvino


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Keep OpenVINO from reporting an import or a conversion to Intel: it asks for ``CI``, and has no other switch."""
    with _asking:
        before = os.environ.get("CI")
        os.environ["CI"] = "true"
        try:
            yield
        finally:
            if before is None:
                del os.environ["CI"]
            else:
                os.environ["CI"] = before


@contextmanager
def _eager_attention(module: "torch.nn.Module") -> Iterator[None]:
    """Use the attention implementation that tracing supports, within a block."""
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
