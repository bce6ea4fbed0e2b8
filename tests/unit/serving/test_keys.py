import hashlib

import pytest
from starlette.exceptions import HTTPException

from inference.errors import ChurnRadarError
from inference.serving.keys import find_key, keys_from_environment, new_key, read_keys
from inference.serving.limits import RateLimit


def test_only_the_hash_of_a_key_is_kept():
    secret, key = new_key("checkout", ["write", "read"])
    assert len(secret) == 43
    assert str(key) == f"checkout:read+write:{hashlib.sha256(secret.encode()).hexdigest()}"
    assert secret not in repr(key)


def test_a_key_is_found_by_its_secret_alone():
    (one, first), (two, second) = new_key("one", ["read"]), new_key("two", ["read", "write"])
    keys = read_keys(f"{first}, {second}\n")
    assert keys == [first, second]
    assert find_key(keys, one) == first
    assert find_key(keys, two).scopes == {"read", "write"}
    assert find_key(keys, "") is find_key(keys, first.digest) is None


@pytest.mark.parametrize("entry", ["secret", "a:read:123", f"a:admin:{'0' * 64}", f"a b:read:{'0' * 64}"])
def test_an_entry_that_cannot_be_read_is_named_by_its_place_alone(entry):
    good = new_key("good", ["read"])[1]
    with pytest.raises(ChurnRadarError, match=r"CHURN_API_KEYS: entry \d cannot be read") as error:
        read_keys(f"{good} {entry}")
    assert entry not in str(error.value)


def test_requests_are_counted_per_client():
    limit = RateLimit("2/hour")
    for client in ("a", "a", "b"):
        limit.count(client)
    with pytest.raises(HTTPException, match="429: more than 2/hour; try again later") as refused:
        limit.count("a")
    assert refused.value.headers == {"Retry-After": "3600"}


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(ChurnRadarError, match="CHURN_RATE_LIMIT is often; expected a rate such as 1000/second"):
        RateLimit("often")


def test_everybody_may_call_on_loopback_alone(monkeypatch):
    monkeypatch.delenv("CHURN_API_KEYS", raising=False)
    assert keys_from_environment("127.0.0.1") == []
    with pytest.raises(ChurnRadarError, match=r"--host is 0\.0\.0\.0; expected at least one key"):
        keys_from_environment("0.0.0.0")
    _, key = new_key("app", ["read"])
    monkeypatch.setenv("CHURN_API_KEYS", str(key))
    assert keys_from_environment("0.0.0.0") == [key]
