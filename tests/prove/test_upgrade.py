"""Homes that earlier states of Churn Radar made: each command of today works on them, and no score or event is lost.

The earlier states are taken from git and run in today's environment.

pytest tests/prove/test_upgrade.py -s
"""

import io
import shutil
import subprocess
import tarfile
from dataclasses import replace

import pandas as pd
import pytest
from hostile_events import order
from service import serving
from shop import PROJECT, Shop

from inference.home_format import FORMAT, read_format

#: Commits of earlier states, from the oldest on.
STATES = ("c722d83", "2a0a31c")
VARS = ("--vars", "{churn__transformer: false}")
BUILD = ("dbt", "build", "--exclude-resource-type", "unit_test", *VARS)
SENT = [f"old {number}" for number in range(3)]


@pytest.fixture(scope="module", params=STATES)
def old(request, tmp_path_factory) -> Shop:
    """A shop of an earlier state, with two models, scores, an online store and accepted events."""
    code = tmp_path_factory.mktemp("code")
    archive = subprocess.run(["git", "archive", request.param], cwd=PROJECT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"commit {request.param} is not in this clone: git fetch --unshallow")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(code, filter="data")
    shop = Shop(tmp_path_factory.mktemp("old") / "home", project=code, settings={"PYTHONPATH": str(code)})
    shop.run("churn-radar", "simulate", "--customers", "300", "--days", "200", "--seed", "5")
    shop.run(*BUILD)
    shop.run("dbt", "build", "--select", "churn_model+", *VARS[:1], "{churn__transformer: false, churn__train: always}")
    materialize(shop)
    with serving(shop) as service:
        service.wait_until_ready()
        for name in SENT:
            event = order(name, customer_id=shop.scores().customer_id[0])
            assert service.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
    return shop


def materialize(shop: Shop) -> None:
    shop.run("feast", "-c", "feature_repo", "apply")
    moment = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    shop.run("feast", "-c", "feature_repo", "materialize", moment, moment)


def champion(shop: Shop) -> str:
    models = pd.read_parquet(shop.published.with_name("churn_model.parquet"))
    return models[models.is_champion].model_version.iloc[0]


def serve(shop: Shop) -> None:
    customer = shop.scores().customer_id[0]
    with serving(shop) as service:
        service.wait_until_ready()
        assert service.get(f"/v1/customers/{customer}/churn").status_code == 200
        again, new = order(SENT[0], customer_id=customer), order("new", customer_id=customer)
        receipt = service.post("/v1/events", json={"events": [again, new]}).json()
        assert (receipt["accepted"], receipt["duplicates"]) == (1, 1)
        assert receipt["scores"][0]["source"] == "fresh"


def rollback(shop: Shop) -> None:
    (other,) = {"1", "2"} - {champion(shop)}
    shop.run("churn-radar", "rollback", "--to", other, *VARS)
    assert champion(shop) == other


def erase(shop: Shop) -> None:
    done = shop.run("churn-radar", "erase", "--customer", shop.scores().customer_id.iloc[-1])
    assert "Nothing found in " in done.stdout


def backup(shop: Shop) -> None:
    folder = shop.home.parent / "backup"
    shop.run("churn-radar", "backup", str(folder))
    restored = replace(shop, home=shop.home.parent / "restored")
    restored.run("churn-radar", "restore", str(folder))
    check_kept(shop, restored)


#: What is done first to a home of an earlier state.
FIRST = {
    "build": lambda shop: shop.run(*BUILD),
    "materialize": materialize,
    "serve": serve,
    "explain": lambda shop: shop.run("churn-radar", "explain", shop.scores().customer_id[0]),
    "report": lambda shop: shop.run("churn-radar", "report", "--no-compare"),
    "rollback": rollback,
    "erase": erase,
    "backup": backup,
    "doctor": lambda shop: shop.run("churn-radar", "doctor"),
    "events": lambda shop: shop.run("churn-radar", "events", "list"),
}


def check_kept(before: Shop, after: Shop, without: str | None = None) -> None:
    """Check that scores and events of one home are in another, but those of a customer."""
    scores, kept = before.scores(), after.scores()
    key = ["customer_id", "as_of_date", "model_version"]
    both = scores[scores.customer_id != without].merge(kept, on=key, suffixes=("", "_kept"))
    assert len(both) == (scores.customer_id != without).sum()
    assert (both.churn_probability == both.churn_probability_kept).all()
    listed = after.run("churn-radar", "events", "list").stdout
    assert all(name in listed for name in SENT)


@pytest.mark.parametrize("command", FIRST)
def test_a_command_of_today_on_a_home_of_an_earlier_state(old, tmp_path, command):
    home = tmp_path / "home"
    shutil.copytree(old.home, home, symlinks=True)
    shop = Shop(home)
    FIRST[command](shop)
    check_kept(old, shop, without=old.scores().customer_id.iloc[-1] if command == "erase" else None)
    if command in ("build", "materialize", "rollback", "erase", "backup"):
        assert read_format(home)["format"] == FORMAT
    if command == "build":  # and everything after it
        for name, others in FIRST.items():
            if name != "doctor":
                others(shop)
