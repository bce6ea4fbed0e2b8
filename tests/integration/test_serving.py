"""The HTTP service as its own process, on an online store loaded by Feast."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import pytest
import requests
import trustme
from hostile_events import NOW, REFUSED, order
from service import BOTH, KEYS, READER, WRITER, Service, serving
from shop import BIN, PROJECT, Shop

from inference.event_log.sqlite_log import SqliteEventLog

AS_OF = pd.Timestamp("2026-11-01")
#: The page of the docs with examples of requests.
EXAMPLES = PROJECT / "docs" / "application-developer.md"
N_CUSTOMERS = 1200
SALT = "a salt for this test alone"
#: Pseudonym of the customer `hidden`.
HIDDEN = "p_" + hashlib.sha256(f"{SALT}pseudonym:hidden".encode()).hexdigest()[:32]


def published_scores() -> pd.DataFrame:
    """Scores of customers c0 to c1197 with increasing risk, a pseudonym, and an id with special characters."""
    ids = [f"c{i}" for i in range(N_CUSTOMERS - 2)] + [HIDDEN, "Zoë/O'Brien 7%"]
    scores = [
        {
            "churn_probability": (i + 0.5) / N_CUSTOMERS,
            "risk_band": "low" if i < 300 else "critical",
            "risk_percentile": i / (N_CUSTOMERS - 1),
            "horizon_days": 30,
            "expected_spend": 40.0,
            "value_at_risk": 40 * (i + 0.5) / N_CUSTOMERS,
            "reason_1": f"last order {i} days ago",
            "reason_2": "no visit in the last 30 days" if i % 2 else None,
            "reason_3": None,
            "model_version": "3",
        }
        for i in range(N_CUSTOMERS)
    ]
    return pd.DataFrame(
        {
            "customer_id": ids,
            "score": [json.dumps(score) for score in scores],
            "feature_snapshot_at": AS_OF,
            "scored_at": AS_OF + pd.Timedelta(hours=2),
        }
    )


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Shop:
    """A shop with generated scores, loaded into the online store by Feast."""
    shop = Shop(tmp_path_factory.mktemp("serving") / "home", settings={"CHURN_SALT": SALT})
    shop.published.parent.mkdir(parents=True)
    published_scores().to_parquet(shop.published.with_name("online_scores.parquet"), index=False)
    shop.run("dbt", "parse")
    materialize(shop, "online_scores")
    return shop


def materialize(shop: Shop, *views: str) -> None:
    shop.run("feast", "-c", "feature_repo", "apply", "--skip-source-validation")
    moment = f"{AS_OF:%Y-%m-%dT%H:%M:%S}"
    shop.run("feast", "-c", "feature_repo", "materialize", moment, moment, *(f"--views={view}" for view in views))


@pytest.fixture(scope="module")
def service(scored) -> Iterator[Service]:
    with serving(scored, CHURN_API_KEYS=KEYS) as running:
        running.wait_until_ready()
        yield running


def test_a_customer_has_the_score_that_was_published(service):
    answer = service.get("/v1/customers/c600/churn")
    assert answer.status_code == 200
    body = answer.json()
    age = body.pop("feature_age_seconds")
    assert body == {
        "customer_id": "c600",
        "churn_probability": 600.5 / 1200,
        "risk_band": "critical",
        "risk_percentile": 600 / 1199,
        "horizon_days": 30,
        "expected_spend": 40.0,
        "value_at_risk": 40 * 600.5 / 1200,
        "reasons": ["last order 600 days ago"],
        "model_version": "3",
        "as_of": "2026-11-01T00:00:00Z",
        "source": "stored",
    }
    assert abs(age - (pd.Timestamp.now(tz="UTC") - AS_OF.tz_localize("UTC")).total_seconds()) < 60


def test_any_character_may_be_in_an_id(service):
    answer = service.get("/v1/customers/Zo%C3%AB%2FO'Brien%207%25/churn")
    assert answer.json()["customer_id"] == "Zoë/O'Brien 7%"


def test_customers_with_pseudonyms_are_looked_up_by_their_own_ids(service):
    answer = service.get("/v1/customers/hidden/churn").json()
    assert (answer["customer_id"], answer["reasons"][0]) == ("hidden", "last order 1198 days ago")


def test_scores_computed_elsewhere_can_be_pushed_through_feast(service, scored):
    push = f"""
import json, pandas as pd
from feast.data_source import PushMode
from inference.feature_store.client import open_store, online_scores
score = online_scores(["c1100"]).iloc[0].drop("customer_id").to_dict() | {{"reason_1": "pushed"}}
row = {{"customer_id": "c1100", "score": json.dumps(score)}}
times = dict.fromkeys(["feature_snapshot_at", "scored_at"], pd.Timestamp("{AS_OF}") + pd.Timedelta(hours=5))
open_store().push("online_scores_push", pd.DataFrame([row | times]), to=PushMode.ONLINE)
"""
    assert service.get("/v1/customers/c1100/churn").json()["reasons"][0] == "last order 1100 days ago"
    scored.run("python", "-c", push)
    answer = service.get("/v1/customers/c1100/churn").json()
    assert (answer["reasons"][0], answer["as_of"]) == ("pushed", "2026-11-01T05:00:00Z")


def test_a_batch_keeps_the_order_of_the_request(service):
    ids = ["c900", "nobody", "c3", "c900"]
    answer = service.post("/v1/churn:batch", json={"customer_ids": ids})
    assert answer.status_code == 200
    assert [score["customer_id"] for score in answer.json()["scores"]] == ["c900", "c3", "c900"]
    assert answer.json()["unknown"] == ["nobody"]
    assert answer.json()["scores"][0]["reasons"] == ["last order 900 days ago"]


def test_a_batch_of_a_thousand_customers_is_allowed(service):
    ids = [f"c{i}" for i in range(1000)]
    answer = service.post("/v1/churn:batch", json={"customer_ids": ids})
    assert answer.status_code == 200, answer.text
    assert [score["reasons"][0] for score in answer.json()["scores"]] == [
        f"last order {i} days ago" for i in range(1000)
    ]


PROBLEMS = {
    "unknown customer": ("/v1/customers/nobody/churn", None, 404, "this customer has no score"),
    "control character": ("/v1/customers/a%00b/churn", None, 422, "path.customer_id: String should match pattern"),
    "long id": (f"/v1/customers/{'x' * 201}/churn", None, 422, "should have at most 200 characters"),
    "too many": ("/v1/churn:batch", {"customer_ids": ["c"] * 1001}, 422, "should have at most 1000 items"),
    "none": ("/v1/churn:batch", {"customer_ids": []}, 422, "should have at least 1 item"),
    "half": ("/v1/churn:batch", {"customer_ids": [7.5]}, 422, "body.customer_ids.0: Input should be a valid string"),
    "misspelt": ("/v1/churn:batch", {"customers": ["c1"]}, 422, "body.customer_ids: Field required"),
    "no such page": ("/v2/churn", None, 404, "Not Found"),
}


@pytest.mark.parametrize(("path", "body", "status", "detail"), PROBLEMS.values(), ids=PROBLEMS)
def test_errors_are_problem_details(service, path, body, status, detail):
    answer = service.get(path) if body is None else service.post(path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"title", "status", "detail"}
    assert detail in answer.json()["detail"]


def test_an_event_is_accepted_once(service, scored):
    events = [order("once"), order("twice", items=[{"product_id": "tea", "quantity": 2, "unit_price": 10}])]
    answer = service.post("/v1/events", WRITER, json={"events": events})
    assert answer.status_code == 200, answer.text
    # no build has stored what scoring needs
    assert answer.json() == {"accepted": 2, "duplicates": 0, "scores": [], "pending": []}
    again = service.post("/v1/events", WRITER, json={"events": [order("once"), order("new")]})
    assert again.json() == {"accepted": 1, "duplicates": 1, "scores": [], "pending": []}
    other = service.post("/v1/events", WRITER, json={"events": [order("newest"), order("once", amount=21.0)]})
    assert other.status_code == 409
    assert other.json()["detail"] == "event_id once was used for other content; nothing of this request was kept"
    log = SqliteEventLog(scored.home / "events" / "log.db")
    logged = {event.event_id: event.rows for event in log.since()}
    log.close()
    assert list(logged) == ["once", "twice", "new"]
    assert logged["twice"]["order_items"] == [
        {
            "order_id": "order twice",
            "product_id": "tea",
            "quantity": 2.0,
            "unit_price": 10.0,
            "product_name": None,
            "category": None,
        }
    ]
    assert logged["once"]["orders"][0]["ordered_at"] == f"{NOW:%Y-%m-%dT%H:%M:%S}"
    assert re.search(r"churn_radar_events_total 3\.0", service.get("/metrics").text)


@pytest.mark.parametrize(("events", "status", "detail"), REFUSED.values(), ids=REFUSED)
def test_a_hostile_event_rejects_the_whole_request(service, scored, events, status, detail):
    log = SqliteEventLog(scored.home / "events" / "log.db")
    before = log.newest()
    body = json.dumps({"events": [*events, order("good")]})  # requests would refuse NaN
    headers = {"X-API-Key": WRITER, "content-type": "application/json"}
    answer = requests.post(f"{service.url}/v1/events", body, headers=headers, timeout=5)
    assert (answer.status_code, log.newest()) == (status, before), answer.text
    assert detail in answer.json()["detail"]
    log.close()


def test_more_than_a_thousand_events_are_rejected(service):
    answer = service.post("/v1/events", WRITER, json={"events": [order(str(i)) for i in range(1001)]})
    assert answer.status_code == 422
    assert "should have at most 1000 items" in answer.json()["detail"]


def test_events_need_the_write_scope(service):
    for key, status in ((None, 401), ("wrong", 401), (READER, 403)):
        assert service.post("/v1/events", key, json={"events": [order("x")]}).status_code == status


def test_requests_without_a_valid_key_are_rejected(service):
    path = "/v1/customers/c1/churn"
    for key in (None, "wrong", READER + "x"):
        answer = service.get(path, key)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "ApiKey"
    assert service.get(path, WRITER).status_code == 403
    assert service.get(path, READER).status_code == 200
    assert service.get("/readyz").status_code == 200


@pytest.mark.parametrize("key", [READER, WRITER, BOTH], ids=["read", "write", "both"])
def test_schemathesis_finds_no_server_error_and_nothing_undocumented(service, tmp_path, key):
    # the schema allows any event time, but events in the future, or older than the history, are rejected
    (tmp_path / "schemathesis.toml").write_text(
        '[[operations]]\ninclude-path = "/v1/events"\n'
        'checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "409", "422", "429"]\n'
    )
    where = (f"{service.url}/openapi.json", "--no-color", "--checks", "all", "--header", f"X-API-Key: {key}")
    examples = ("--max-examples", os.environ.get("CHURN_EXAMPLES", "30"))
    done = subprocess.run(
        [BIN / "schemathesis", "run", *where, *examples], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0
    assert "Tested: 6" in done.stdout


@pytest.mark.parametrize("language", ["python", "bash"])
def test_the_examples_of_the_docs_run(service, language):
    """Run the Python and curl examples of docs/application-developer.md on the service and a customer of this test."""
    if language == "bash" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    blocks = re.findall(rf"```{language}\n(.*?)```", EXAMPLES.read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "http://127.0.0.1:8080/v1/customers" in block)
    code = re.sub("^churn-radar.*\n", "", code, flags=re.MULTILINE)  # the service runs already
    code = code.replace("http://127.0.0.1:8080", service.url).replace("1301", "c600")
    command = [BIN / "python", "-c", code] if language == "python" else ["bash", "-euc", code]
    env = os.environ | {"CHURN_API_KEY": READER}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "0.500416" in done.stdout
    assert "last order 600 days ago" in done.stdout


def test_the_event_of_the_docs_is_accepted(service):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    blocks = re.findall(r"```bash\n(.*?)```", EXAMPLES.read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "/v1/events" in block)
    env = os.environ | {"CHURN_API_KEY": WRITER}
    code = code.replace("http://127.0.0.1:8080", service.url)
    done = subprocess.run(["bash", "-euc", code], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert '"accepted":1' in done.stdout, done.stderr


def test_tls_and_the_rate_limit(scored, tmp_path):
    authority = trustme.CA()
    identity = authority.issue_cert("127.0.0.1")
    certificate, private_key, trusted = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem"))
    identity.cert_chain_pems[0].write_to_path(certificate)
    identity.private_key_pem.write_to_path(private_key)
    authority.cert_pem.write_to_path(trusted)
    alone = scored.run("churn-radar", "serve", "--certificate", certificate, check=False)
    assert "--certificate and --private-key belong together" in alone.stderr
    arguments = ("--certificate", certificate, "--private-key", private_key)
    with serving(scored, *arguments, CHURN_RATE_LIMIT="5/minute") as running:
        url = running.url.replace("http:", "https:")
        while requests.get(f"{url}/readyz", verify=trusted, timeout=5).status_code != 200:
            time.sleep(0.1)
        answers = [requests.get(f"{url}/v1/customers/c1/churn", verify=trusted, timeout=5) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_other_hosts_than_loopback_need_a_key(scored):
    done = scored.run("churn-radar", "serve", "--host", "0.0.0.0", check=False)
    assert done.returncode == 1
    assert "CHURN_API_KEYS is empty and --host is 0.0.0.0; expected at least one key" in done.stderr


def test_metrics_count_routes_and_contain_no_ids(service):
    service.get("/v1/customers/c77/churn")
    metrics = service.get("/metrics").text
    assert re.search(
        r'churn_radar_requests_total\{method="GET",route="/v1/customers/\{customer_id\}/churn",status="200"} \d',
        metrics,
    )
    assert "c77" not in metrics


def test_without_a_materialised_store_the_service_is_not_ready(tmp_path):
    with serving(Shop(tmp_path)) as empty:
        assert empty.get("/healthz").status_code == 200
        for path in ("/readyz", "/v1/customers/c1/churn"):
            answer = empty.get(path)
            assert answer.status_code == 503
            assert answer.json()["detail"] == "the online store does not answer; try again later"


def test_the_service_recovers_when_redis_returns(scored, redis_server):
    shop = replace(scored, settings=scored.settings | {"CHURN_REDIS": redis_server.address})
    materialize(shop, "online_scores")
    with serving(shop) as running:
        running.wait_until_ready()
        assert running.get("/v1/customers/c5/churn").json()["reasons"] == [
            "last order 5 days ago",
            "no visit in the last 30 days",
        ]
        redis_server.stop()
        for _ in range(3):
            started = time.monotonic()
            answer = running.get("/v1/customers/c5/churn")
            assert answer.status_code == 503
            assert time.monotonic() - started < 1
        redis_server.start()
        # Redis loads its file first and rejects commands meanwhile
        running.wait_until_ready()
        assert running.get("/v1/customers/c5/churn").status_code == 200


HOLDS = """
import sys
from inference.lock import hold
hold("dbt build")
print("held", flush=True)
sys.stdin.read()
"""
OPENS = """
import sys
import duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def beside(shop: Shop, program: str, *arguments: str) -> Iterator[int]:
    """Run a Python program in a process of its own during a block; its number."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, env=shop.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def lines_of(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def test_two_that_write_to_a_home_at_once(scored):
    commands = {
        "dbt": ["run", "--select", "stg_orders"],
        "feast": ["-c", "feature_repo", "apply"],
        "churn-radar": ["rollback"],
    }
    with beside(scored, HOLDS) as holder:
        for program, arguments in commands.items():
            done = scored.run(program, *arguments, check=False)
            assert done.returncode != 0
            (line,) = (line for line in lines_of(done) if f"dbt build (process {holder} on" in line)
            assert "writes to it; expected one command at a time" in line
            assert "Traceback" not in done.stdout + done.stderr
            assert len(lines_of(done)) <= 12


def test_a_build_beside_a_program_that_has_the_warehouse_open(scored):
    file = scored.home / "churn_radar.duckdb"
    with beside(scored, OPENS, str(file)) as holder:
        done = scored.run("dbt", "run", "--select", "stg_orders", check=False)
        (line,) = (line for line in lines_of(done) if f"PID {holder}" in line)
        assert f"{file} cannot be opened; expected nobody who has it open: let them close it" in line
        assert "Traceback" not in done.stdout + done.stderr
    file.unlink()


def test_a_damaged_online_store_is_made_again(scored, tmp_path):
    shop = replace(scored, home=tmp_path / "home")
    shutil.copytree(scored.home, shop.home, symlinks=True)
    pd.DataFrame({"as_of_date": [AS_OF.date()]}).to_parquet(shop.published)
    file = shop.home / "feast" / "online.db"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    done = shop.run("churn-radar", "explain", "c7")
    assert f"{file}: damaged; it is made again from published files" in done.stdout
    assert "last order 7 days ago" in done.stdout
    assert file.with_name("online.db.damaged").exists()


def test_ids_are_found_however_they_are_written_where_the_warehouse_has_numbers(scored, service):
    """The last test: the store then has the facts of a shop with numbers."""
    numbers = published_scores().head(2).assign(customer_id=["7", "8"])
    numbers.to_parquet(scored.published.with_name("online_scores.parquet"), index=False)
    (scored.home / "features").mkdir(exist_ok=True)
    facts = json.dumps({"numeric_ids": ["customer"]})
    shop = pd.DataFrame({"shop_id": ["shop"], "as_of_date": AS_OF, "event_timestamp": AS_OF, "facts": facts})
    shop.to_parquet(scored.home / "features" / "online_shop.parquet", index=False)
    assert service.get("/v1/customers/007/churn").status_code == 404
    materialize(scored, "online_scores", "online_shop")
    for path in ("007", "%207%20", "7", "7.0", "+7"):
        assert service.get(f"/v1/customers/{path}/churn").json()["customer_id"] == "7"
    answer = service.post("/v1/churn:batch", json={"customer_ids": ["007", 8, 7.0, "9", "nan"]}).json()
    assert [score["customer_id"] for score in answer["scores"]] == ["7", "8", "7"]
    assert answer["unknown"] == ["9", "nan"]
    event = {"type": "browsing", "event_type": "view", "occurred_at": NOW.isoformat(), "session_id": "007"}
    for key, customer in (("numbers", "007"), ("numbers", 7), ("numbers 2", "8.0")):
        sent = service.post("/v1/events", WRITER, json={"events": [event | {"event_id": key, "customer_id": customer}]})
        assert sent.status_code == 200, sent.text
    log = SqliteEventLog(scored.home / "events" / "log.db")
    assert [(e.customer_id, e.rows["events"][0]["session_id"]) for e in log.since() if "numbers" in e.event_id] == [
        ("7", "007"),
        ("8", "007"),
    ]
    log.close()
