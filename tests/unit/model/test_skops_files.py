"""Files that an older version saved with skops; ``saved_before`` holds what that version wrote for ``CUSTOMERS``."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.model.members import LogisticMember
from inference.model.skops_files import read_skops, read_standardiser

SAVED = Path(__file__).parent / "saved_before"
NAN = np.nan
CUSTOMERS = pd.DataFrame(
    {"silence": [5.0, 20, 60, 85, 40, 90], "rating": [5.0, NAN, 1, 2, NAN, 3], "unknown": [4.0, *[NAN] * 5]}
)


def test_a_logistic_member_gives_the_logits_of_the_version_that_saved_it() -> None:
    member = LogisticMember.load(SAVED)
    expected = [
        *(-0.059506518569131854, -0.020367825390355816, 0.034066980623246326),
        *(0.02902757841324503, -0.003914331385257767, 0.02084872275909828),
    ]
    np.testing.assert_allclose(member.logit(CUSTOMERS), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(member.contributions(CUSTOMERS).sum(axis=1), expected, rtol=0, atol=1e-12)


def test_it_is_saved_as_numbers_from_then_on(tmp_path: Path) -> None:
    member = LogisticMember.load(SAVED)
    member.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["logistic.npz"]
    np.testing.assert_array_equal(
        LogisticMember.load(tmp_path).contributions(CUSTOMERS), member.contributions(CUSTOMERS)
    )


def test_a_standardiser_transforms_as_the_version_that_saved_it() -> None:
    transformed = read_standardiser(read_skops(SAVED / "standardiser.skops")).transform(CUSTOMERS.to_numpy())
    assert transformed.shape == (6, 5)
    np.testing.assert_allclose(transformed[0], [-1.9085528706798673, 1.3680860912288553, 0, 0, 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(transformed[4], [0.11503527978188573, 0, 0, 1, 1], rtol=0, atol=1e-12)


def test_a_node_that_was_saved_once_is_read_wherever_it_stands(tmp_path: Path) -> None:
    part = {"__loader__": "DictNode", "content": {"a": {"__loader__": "JsonNode", "content": "1"}}, "__id__": 7}
    content = {"first": part, "again": {"__loader__": "CachedNode", "__id__": 7}}
    with zipfile.ZipFile(tmp_path / "made.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps({"__loader__": "DictNode", "content": content, "__id__": 1}))
    assert read_skops(tmp_path / "made.skops") == {"first": {"a": 1}, "again": {"a": 1}}


@pytest.mark.parametrize("kept_bytes", [0, 1000])
def test_a_damaged_file_is_refused(tmp_path: Path, kept_bytes: int) -> None:
    shutil.copy(SAVED / "logistic.skops", tmp_path)
    file = tmp_path / "logistic.skops"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    with pytest.raises(zipfile.BadZipFile):
        LogisticMember.load(tmp_path)
