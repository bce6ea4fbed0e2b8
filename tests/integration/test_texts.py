"""A small simulated shop with odd texts: embedded, scored, searched through Feast, and encoded by another encoder.

The shop is built once, and the tests run in the order in which they change it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from shop import Shop
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from inference.errors import ChurnRadarError
from inference.feature_store.text_search import find_similar
from inference.text.encoder.encoder import Encoder

BUILD = ("dbt", "build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "test")

#: Odd texts as they occur in real shops.
ODD = {
    "empty": "",
    "blank": " \n\t",
    "one word": "late",
    "100,000 characters": "late again " * 9_091,
    "emoji": "😡😡📦💔",
    "HTML": "<div><script>alert('x')</script><p>Came <b>late</b> &amp; broken</p></div>",
    "binary": "\x00\x01\x02PNG\r\n\x1a\n\x7f\u0085\ufffd\ufffd\ufeff\u200b",
    "mixed languages": "Paket kam zu spät, 质量很差, très déçu, もう買わない. Never again!",
    "one line of signs": "!?!?!?!?…;;; --- ###",
    "no spaces": "x" * 5_000,
    "personal data": "Parcel 12 days late! Call +49 170 1234567 or write to anna.b@example.com about order #A-12345.",
}


def odd_reviews(reviews: pd.DataFrame, customers: list[str]) -> pd.DataFrame:
    """Add an odd review as the newest one of each customer, and a review of an unknown customer."""
    written = reviews.reviewed_at.max() - pd.Timedelta(days=2)
    odd = pd.DataFrame(
        {
            "review_id": [f"odd {name}" for name in ODD],
            "customer_id": customers[: len(ODD)],
            "review_text": list(ODD.values()),
        }
    )
    unknown = odd.tail(1).assign(review_id="unknown", customer_id="nobody", review_text="The parcel never came.")
    return pd.concat([reviews, odd, unknown], ignore_index=True).assign(
        reviewed_at=lambda r: r.reviewed_at.fillna(written),
        rating=lambda r: r.rating.where(r.index < len(reviews), 1.0),
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Shop, list[str]]:
    """The shop, built and materialised, and the customers with odd texts."""
    shop = Shop(tmp_path_factory.mktemp("texts") / "home")
    shop.run("churn-radar", "simulate", "--customers", "300", "--days", "200", "--seed", "3")
    orders = pd.read_parquet(shop.raw / "orders.parquet")
    newest = orders[orders.status.fillna("completed") == "completed"].sort_values("ordered_at").customer_id
    customers = list(newest.drop_duplicates(keep="last").tail(len(ODD)))
    shop.write(reviews=odd_reviews(pd.read_parquet(shop.raw / "reviews.parquet"), customers))
    shop.run(*BUILD)
    materialize(shop)
    return shop, customers


@pytest.fixture
def inside(built, monkeypatch) -> pytest.MonkeyPatch:
    """Point this process's environment at the shop."""
    for name, value in built[0].env.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def materialize(shop: Shop) -> None:
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    for command in (("apply",), ("materialize", as_of, as_of)):
        assert shop.run("feast", "-c", "feature_repo", *command).stderr == ""


def check_refused(shop: Shop, expected: str, *command: str, **settings: str) -> None:
    """Run a command, and check that it fails with one line and changes no published file."""
    before = shop.published.read_bytes()
    done = replace(shop, settings=settings).run(*command, check=False)
    assert done.returncode != 0
    assert len([line for line in (done.stdout + done.stderr).splitlines() if expected in line]) == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert shop.published.read_bytes() == before


def test_odd_texts_are_scored_quoted_and_masked(built):
    shop, customers = built
    scores = shop.scores().set_index("customer_id")
    assert set(customers) <= set(scores.index)
    assert "nobody" not in scores.index
    assert scores.churn_probability.between(0, 1).all()
    reasons = " ".join(scores[["reason_1", "reason_2", "reason_3"]].stack())
    assert reasons.isprintable()
    assert "anna" not in reasons
    assert "1234567" not in reasons

    read = shop.table("review_embeddings").set_index("text_id")
    assert not {"reviews:odd empty", "reviews:odd blank"} & set(read.index)
    assert {f"reviews:odd {name}" for name in list(ODD)[2:]} <= set(read.index)
    assert read.embedding.map(len).eq(384).all()
    quotes = shop.table("searchable_texts").set_index("text_id").quote
    assert quotes.str.len().max() <= 301
    assert quotes.map(str.isprintable).all()
    assert quotes["reviews:odd HTML"] == "alert('x') Came late & broken"
    assert quotes["reviews:odd personal data"] == (
        "Parcel 12 days late! Call [phone] or write to [e-mail] about [order]."
    )
    assert quotes["reviews:unknown"] == "The parcel never came."


def test_a_paraphrase_finds_late_parcels(built, inside):
    shop, _ = built
    incidents = pd.read_parquet(shop.home / "truth" / "incidents.parquet")
    late = incidents[incidents.aspect == "delivery"]
    about_delivery = {*("reviews:" + late.review_id.dropna()), *("support_tickets:" + late.ticket_id.dropna())}
    results = find_similar("my package arrived weeks after the promised date", 10)
    assert len(about_delivery & set(results.text_id)) >= 7
    # about one in thirteen of all texts is about delivery
    assert len(about_delivery) / len(shop.table("searchable_texts")) < 0.1
    assert results.similarity.is_monotonic_decreasing


def test_search_results_equal_those_of_an_exhaustive_comparison(built, inside):
    shop, _ = built
    texts = shop.table("searchable_texts").set_index("text_id")
    query = "they keep my money and do not answer"
    vectors = np.vstack(texts.embedding)
    query_vector = Encoder().encode([query])[0]
    cosines = vectors @ query_vector / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query_vector)
    results = find_similar(query, 20).set_index("text_id")
    np.testing.assert_allclose(results.similarity, np.sort(cosines)[::-1][:20], atol=1e-5)
    pd.testing.assert_frame_equal(
        results[["kind", "customer_id", "quote"]], texts.loc[results.index, ["kind", "customer_id", "quote"]]
    )
    written = pd.to_datetime(results.written_at, utc=True).dt.tz_localize(None)
    assert (written == texts.written_at.loc[results.index].dt.floor("s")).all()


def test_the_command_shows_texts_with_personal_data_masked(built):
    shop, customers = built
    done = shop.run("churn-radar", "similar", "twelve days late, call me about my order", "--top", "1")
    assert done.stderr == ""
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert "[phone]" in done.stdout
    assert customers[-1] in done.stdout
    assert "anna" not in done.stdout


def test_a_missing_encoder_is_named_and_nothing_is_published(built, tmp_path):
    line = f"CHURN_ENCODER is {tmp_path}/nowhere, but there is no such folder; expected a saved model"
    check_refused(built[0], line, *BUILD, CHURN_ENCODER=f"{tmp_path}/nowhere")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_is_an_error(built):
    line = "CHURN_DEVICE is cuda, but there is no CUDA device; expected one, or auto or cpu"
    check_refused(built[0], line, "churn-radar", "similar", "late", CHURN_DEVICE="cuda")


def test_a_damaged_champion_is_named_with_a_remedy(built):
    shop, _ = built
    (weights,) = (shop.home / "mlflow" / "artifacts").rglob("logistic.npz")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    try:
        check_refused(shop, "churn-radar: champion 1 in ", "churn-radar", "report", "--no-compare")
    finally:
        weights.write_bytes(whole)


def make_tiny_encoder(folder: Path, texts: list[str]) -> str:
    """Save an untrained XLM-RoBERTa of dimension 32 with a tokenizer trained on the texts; return its path."""
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, sep_token="</s>", **names).save_pretrained(folder / "network")
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=1,
    )
    XLMRobertaModel(config).save_pretrained(folder / "network")
    network = Transformer(str(folder / "network"), max_seq_length=64)
    SentenceTransformer(modules=[network, Pooling(32)]).save(str(folder / "tiny"))
    return str(folder / "tiny")


def test_changing_the_encoder_re_encodes_all_texts_and_never_mixes_vectors(built, inside, tmp_path):
    shop, _ = built
    before = shop.table("review_embeddings")
    tiny = make_tiny_encoder(tmp_path, list(pd.read_parquet(shop.raw / "reviews.parquet").review_text))
    changed = replace(shop, settings={"CHURN_ENCODER": tiny})
    inside.setenv("CHURN_ENCODER", tiny)
    registry = shop.home / "feast" / "registry.db"
    applied = registry.stat().st_mtime_ns
    build = changed.run(*BUILD)
    assert registry.stat().st_mtime_ns == applied  # the definitions have not changed
    n_texts = before.text_hash.nunique()
    assert f"review_embeddings: encoded {n_texts:,} texts, {len(before):,} of {len(before):,} rows new" in build.stdout

    after = shop.table("review_embeddings")
    assert set(after.text_id) == set(before.text_id)
    assert after.encoder_revision.nunique() == 1
    assert not set(after.encoder_revision) & set(before.encoder_revision)
    assert after.embedding.map(len).eq(32).all()
    pooled = shop.table("text_features").text_embedding.dropna()
    assert pooled.map(len).eq(32).all()
    assert shop.scores().churn_probability.between(0, 1).all()

    # the online store still holds the vectors of the other encoder
    with pytest.raises(ChurnRadarError, match="run feast materialize first"):
        find_similar("late parcel", 5)
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    changed.run("feast", "-c", "feature_repo", "materialize", as_of, as_of, "--views", "searchable_texts")
    assert len(find_similar("late parcel", 5)) == 5
    inside.delenv("CHURN_ENCODER")
    with pytest.raises(ChurnRadarError, match="the shop's texts were read by encoder revision"):
        find_similar("late parcel", 5)

    again = changed.run("dbt", "run", "--select", "review_embeddings")
    assert f"review_embeddings: encoded 0 texts, 0 of {len(before):,} rows new" in again.stdout
    pd.testing.assert_frame_equal(shop.table("review_embeddings"), after)
