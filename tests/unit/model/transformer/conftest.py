"""What tests of the network share: the shop, the encoders and what was trained."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_network import LONG, Shop, fit, make_shop, make_tiny_encoder

from inference.model.transformer.member import TransformerMember
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(EncoderSettings(make_tiny_encoder(tmp_path_factory.mktemp("bert"), "Bert"), "cpu", fidelity=1.0))


@pytest.fixture(scope="session")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """An encoder of another architecture and dimension."""
    return Encoder(
        EncoderSettings(make_tiny_encoder(tmp_path_factory.mktemp("distilbert"), "DistilBert"), "cpu", fidelity=1.0)
    )


@pytest.fixture(scope="session")
def shop() -> Shop:
    return make_shop()


@pytest.fixture(scope="session")
def earlier(shop: Shop) -> Shop:
    return shop.take(slice(0, 240))


@pytest.fixture(scope="session")
def few(earlier: Shop) -> Shop:
    """Enough where nothing is to be learned."""
    return earlier.take(slice(0, 64))


@pytest.fixture(scope="session")
def later(shop: Shop) -> Shop:
    return shop.take(slice(240, None))


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch, bert: Encoder) -> None:
    """Networks run on the CPU, and a network that is loaded finds the tiny encoder."""
    monkeypatch.setenv("CHURN_DEVICE", "cpu")
    monkeypatch.setenv("CHURN_ENCODER", bert.settings.name)


@pytest.fixture(scope="session")
def trained(earlier, bert, tmp_path_factory) -> Callable[[str], TransformerMember]:
    """Members that had the time to learn, by what of the encoder learned."""
    members: dict[str, TransformerMember] = {}

    def get(mode: str) -> TransformerMember:
        if mode not in members:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("trained")))
                patch.setenv("CHURN_DEVICE", "cpu")
                members[mode] = fit(earlier, replace(LONG, fine_tuning=mode), bert)
        return members[mode]

    return get
