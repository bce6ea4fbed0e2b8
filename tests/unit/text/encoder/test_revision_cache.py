import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import make_tiny_encoder

from inference.errors import ChurnRadarError
from inference.home import home
from inference.text.encoder import encoder as encoder_module
from inference.text.encoder import revision_cache
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.revision_cache import EncoderFacts, files_fingerprint, save_facts
from inference.text.encoder.settings import DEFAULT_ENCODER, EncoderSettings


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two encoders whose files have the same names and sizes."""
    return tuple(Path(make_tiny_encoder(tmp_path_factory.mktemp("saved"), seed=seed)) for seed in (0, 1))


@pytest.fixture
def settings(saved: tuple[Path, Path], tmp_path: Path) -> EncoderSettings:
    shutil.copytree(saved[0], tmp_path / "encoder")
    return EncoderSettings(str(tmp_path / "encoder"), "cpu", fidelity=1.0)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Name of every model that is loaded."""
    names: list[str] = []
    load = encoder_module.load_model

    def spy(name: str, device: str):
        names.append(name)
        return load(name, device)

    monkeypatch.setattr(encoder_module, "load_model", spy)
    return names


def test_a_cached_revision_needs_no_load_and_embeddings_are_the_same(settings, loads):
    first = Encoder(settings)
    vectors = first.encode(["late parcel"])
    again = Encoder(settings)
    assert again.revision == first.revision
    assert loads == [settings.name]
    np.testing.assert_array_equal(again.encode(["late parcel"]), vectors)
    assert loads == [settings.name] * 2


@pytest.mark.parametrize("keeps_times", [False, True])
def test_other_weights_of_the_same_size_in_the_same_place_are_noticed(settings, saved, loads, keeps_times):
    before = Encoder(settings).revision
    (weights,) = Path(settings.name).rglob("model.safetensors")
    times = weights.stat()
    (others,) = saved[1].rglob("model.safetensors")
    assert others.stat().st_size == times.st_size
    weights.write_bytes(others.read_bytes())
    if keeps_times:
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Encoder(settings).revision != before
    assert len(loads) == 2


def test_the_fingerprint_depends_on_precision_libraries_and_files(settings, monkeypatch):
    fingerprints = {files_fingerprint(settings)}
    fingerprints.add(files_fingerprint(EncoderSettings(settings.name, "cpu", "openvino-bfloat16")))
    Path(settings.name, "README.md").write_text("more")
    fingerprints.add(files_fingerprint(settings))
    monkeypatch.setattr(revision_cache, "version", lambda name: "99.0")
    fingerprints.add(files_fingerprint(settings))
    assert len(fingerprints) == 4


def test_the_fingerprint_of_the_default_covers_the_cache_and_the_package(monkeypatch, tmp_path):
    default = EncoderSettings(DEFAULT_ENCODER, "cpu")
    monkeypatch.setattr(revision_cache, "HF_HUB_CACHE", str(tmp_path))
    packaged = files_fingerprint(default)
    cached = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2" / "refs" / "main"
    cached.parent.mkdir(parents=True)
    cached.write_text("c9745ed1d9f207416be6d2e6f8de32d1f16199bf")
    assert None not in (packaged, files_fingerprint(default))
    assert packaged != files_fingerprint(default)


def test_a_damaged_cache_is_written_again(settings, loads):
    revision = Encoder(settings).revision
    file = home() / "embeddings" / "encoder.json"
    file.write_bytes(file.read_bytes()[:20])
    assert Encoder(settings).revision == revision
    assert json.loads(file.read_text())["revision"] == revision
    assert len(loads) == 2


def test_a_missing_encoder_is_named(tmp_path):
    nowhere = EncoderSettings(str(tmp_path / "nowhere"), "cpu")
    assert files_fingerprint(nowhere) is None
    with pytest.raises(ChurnRadarError, match="nowhere, but there is no such folder"):
        _ = Encoder(nowhere).revision


def test_an_encoder_that_differs_from_its_cached_revision_encodes_nothing_and_is_cached_anew(settings):
    save_facts(files_fingerprint(settings), EncoderFacts("torch-float32", "another", 24))
    with pytest.raises(ChurnRadarError, match="but was another when its files were last read"):
        Encoder(settings).encode(["late parcel"])
    assert len(Encoder(settings).revision) == 16


def test_a_read_only_home_costs_a_load(settings, loads):
    home().mkdir(parents=True)
    (home() / "embeddings").write_text("no folder")
    assert Encoder(settings).revision == Encoder(settings).revision
    assert len(loads) == 2


def test_a_runtime_of_an_earlier_version_is_chosen_anew(settings):
    save_facts(files_fingerprint(settings), EncoderFacts("torch-unpadded-bfloat16", "0123456789abcdef", 384))
    assert Encoder(settings).revision != "0123456789abcdef"
    assert Encoder(settings).runtime == "torch-float32"
