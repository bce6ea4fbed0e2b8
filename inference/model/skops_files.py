"""Read models that Churn Radar saved with the skops library before it saved them as plain numbers (``.npz``).

A ``.skops`` file is a zip archive: ``schema.json`` is a tree of nodes, and each array is an ``.npy`` file beside it.
Only plain values and arrays are read; of an object its attributes, so nothing in the file is executed.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from inference.model.preprocessing import Standardiser


def read_skops(file: Path) -> dict:
    """Return the content of a ``.skops`` file as dicts, lists, plain values and arrays; other nodes become None."""
    nodes: dict[int, Any] = {}
    with zipfile.ZipFile(file) as archive:

        def value(node: dict) -> Any:
            kind: str = node["__loader__"]
            content: Any = node.get("content")
            if kind == "JsonNode":
                return json.loads(content)
            if kind == "DictNode":
                result: Any = {name: value(part) for name, part in content.items()}
            elif kind in ("ListNode", "TupleNode"):
                result = [value(part) for part in content]
            elif kind == "ObjectNode":
                result = None if content is None else value(content)
            elif kind == "NdArrayNode" and node["type"] == "numpy":
                result = np.load(io.BytesIO(archive.read(node["file"])), allow_pickle=False)
            else:  # a function, a type, or a node that was read before
                return nodes.get(node["__id__"])
            nodes[node["__id__"]] = result
            return result

        return value(json.loads(archive.read("schema.json")))


def read_standardiser(pipeline: dict) -> Standardiser:
    """Standardiser of a saved scikit-learn pipeline, as ``read_skops`` returns it."""
    steps = dict(pipeline["steps"])
    standardiser = Standardiser()
    standardiser.mean_, standardiser.scale_ = steps["standardise"]["mean_"], steps["standardise"]["scale_"]
    standardiser.indicated_ = np.asarray(steps["impute"]["indicator_"]["features_"])
    return standardiser
