import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import make_tiny_encoder

from inference.errors import ChurnRadarError
from inference.home import home
from inference.text.encoder import settings as encoder_settings
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.on_demand import EncoderOnDemand
from inference.text.encoder.settings import DEFAULT_ENCODER, EncoderSettings, files_fingerprint, remember


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two encoders whose files have the same names and sizes."""
    return tuple(Path(make_tiny_encoder(tmp_path_factory.mktemp("saved"), seed=seed)) for seed in (0, 1))


@pytest.fixture
def settings(saved: tuple[Path, Path], tmp_path: Path) -> EncoderSettings:
    shutil.copytree(saved[0], tmp_path / "encoder")
    return EncoderSettings(str(tmp_path / "encoder"), "cpu", fidelity=1.0)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[EncoderSettings]:
    """Every load of an encoder; none is kept by the process."""
    seen: list[EncoderSettings] = []

    def load(settings: EncoderSettings) -> Encoder:
        seen.append(settings)
        return Encoder(settings)

    monkeypatch.setattr(Encoder, "shared", load)
    return seen


def test_a_revision_is_remembered_and_what_it_reads_is_the_same(settings, loaded):
    encoder = EncoderOnDemand(settings)
    assert encoder.revision == Encoder(settings).revision
    assert loaded == [settings]
    again = EncoderOnDemand(settings)
    assert again.revision == encoder.revision
    assert loaded == [settings]
    np.testing.assert_array_equal(again.encode(["late parcel"]), Encoder(settings).encode(["late parcel"]))
    assert loaded == [settings] * 2


@pytest.mark.parametrize("keeps_times", [False, True])
def test_other_weights_of_the_same_size_in_the_same_place_are_noticed(settings, saved, loaded, keeps_times):
    before = EncoderOnDemand(settings).revision
    (weights,) = Path(settings.name).rglob("model.safetensors")
    times = weights.stat()
    (others,) = saved[1].rglob("model.safetensors")
    assert others.stat().st_size == times.st_size
    weights.write_bytes(others.read_bytes())
    if keeps_times:
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert EncoderOnDemand(settings).revision == Encoder(settings).revision != before
    assert len(loaded) == 2


def test_precision_libraries_and_files_count(settings, monkeypatch):
    told = {files_fingerprint(settings)}
    told.add(files_fingerprint(EncoderSettings(settings.name, "cpu", "openvino-bfloat16")))
    Path(settings.name, "README.md").write_text("more")
    told.add(files_fingerprint(settings))
    monkeypatch.setattr(encoder_settings, "version", lambda name: "99.0")
    told.add(files_fingerprint(settings))
    assert len(told) == 4


def test_the_default_is_looked_for_in_the_cache_and_in_its_package(monkeypatch, tmp_path):
    default = EncoderSettings(DEFAULT_ENCODER, "cpu")
    monkeypatch.setattr(encoder_settings, "HF_HUB_CACHE", str(tmp_path))
    packaged = files_fingerprint(default)
    cached = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2" / "refs" / "main"
    cached.parent.mkdir(parents=True)
    cached.write_text("c9745ed1d9f207416be6d2e6f8de32d1f16199bf")
    assert None not in (packaged, files_fingerprint(default))
    assert packaged != files_fingerprint(default)


def test_half_of_a_note_is_none(settings, loaded):
    revision = EncoderOnDemand(settings).revision
    note = home() / "embeddings" / "encoder.json"
    note.write_bytes(note.read_bytes()[:20])
    assert EncoderOnDemand(settings).revision == revision
    assert json.loads(note.read_text())["revision"] == revision
    assert len(loaded) == 2


def test_an_encoder_that_is_not_there_is_named(tmp_path):
    nowhere = EncoderSettings(str(tmp_path / "nowhere"), "cpu")
    assert files_fingerprint(nowhere) is None
    with pytest.raises(ChurnRadarError, match="nowhere, but there is no such folder"):
        _ = EncoderOnDemand(nowhere).revision


def test_an_encoder_that_is_not_what_was_remembered_reads_nothing_and_is_remembered(settings, loaded):
    (home() / "embeddings").mkdir(parents=True)
    note = home() / "embeddings" / "encoder.json"
    known = {"runtime": "torch-float32", "revision": "another", "dimension": 24}
    note.write_text(json.dumps({"files": files_fingerprint(settings)} | known))
    with pytest.raises(ChurnRadarError, match="but was another when its files were last read"):
        EncoderOnDemand(settings).encode(["late parcel"])
    assert EncoderOnDemand(settings).revision == Encoder(settings).revision


def test_a_home_that_may_only_be_read_costs_a_load(settings, loaded):
    home().mkdir(parents=True)
    (home() / "embeddings").write_text("no folder")
    assert EncoderOnDemand(settings).revision == EncoderOnDemand(settings).revision
    assert len(loaded) == 2


def test_a_runtime_of_an_earlier_version_is_chosen_anew(settings):
    remember(files_fingerprint(settings), "torch-unpadded-bfloat16", "0123456789abcdef", 384)
    assert EncoderOnDemand(settings).revision == Encoder(settings).revision != "0123456789abcdef"
    assert Encoder(settings).runtime == "torch-float32"
