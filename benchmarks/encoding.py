"""Reading texts: against ``SentenceTransformer.encode`` with its defaults, and again with few new ones.

    python benchmarks/encoding.py
    python benchmarks/encoding.py --texts 1000 --runs 3

Texts are of review length: about 43 tokens on average, log-normal, put together from the phrases of the simulated
shop. Every run embeds all of them by each side, one after the other, so that a noisy minute meets all. Fidelity is the
mean cosine to what the peer says. The encoder's own runtime is what ``CHURN_ENCODER_FIDELITY`` chooses, 0.9999 (its
default) and 0.995; the peer runs in float32, in batches of 32. Printed besides are the share of the machine's peak of
matrix products in that precision, and what a second encode costs of which one text in a hundred is new.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import suite
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from inference.feature_store.client import snapshot_features
from inference.registry import registry
from inference.simulation.words import ASPECTS, LANGUAGES, complaint, neutral, praise
from inference.text.cleaning import hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings
from inference.text.encoder.tokenizer import make_tokenizer
from inference.text.encoder.vector_cache import cached_vectors
from inference.warehouse import dbt

MEAN_TOKENS, SIGMA = 43, 0.6
FIDELITIES = (0.9999, 0.995)
TARGETS = {0.9999: "at least 4", 0.995: "at least 5.3"}


def reviews(n_texts: int, seed: int = 0, mean_tokens: float = MEAN_TOKENS) -> tuple[list[str], np.ndarray]:
    """Make different texts of review length, and whether each complains."""
    rng, bank = np.random.default_rng(seed), LANGUAGES["en"]
    texts: dict[str, bool] = {}
    while len(texts) < n_texts:
        # a word is about 1.28 tokens
        words = int(np.clip(rng.lognormal(np.log(mean_tokens) - SIGMA**2 / 2, SIGMA), 4, 240) / 1.28)
        complains, sentences = bool(rng.random() < 0.4), []
        while sum(len(sentence.split()) for sentence in sentences) < words:
            if complains:
                sentences.append(complaint(bank, str(rng.choice(ASPECTS)), "severe", rng))
            else:
                sentences.append(praise(bank, rng) if rng.random() < 0.6 else neutral(bank, rng))
        texts[" ".join(" ".join(sentences).split()[: max(3, words)])] = complains
    return list(texts), np.array(list(texts.values()))


def operations(lengths: np.ndarray, encoder: Encoder) -> float:
    """Multiplications and additions of matrix products that texts of these token counts need."""
    config = encoder.transformer.config
    layers = config.num_hidden_layers * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    attention = 2 * config.num_hidden_layers * config.hidden_size * float(np.sum(lengths.astype(float) ** 2))
    return 2 * (layers * float(lengths.sum()) + attention)


def peak(precision: str, device: str) -> float:
    """Operations a second of a large matrix product, the best of 20."""
    size = 2048 if device == "cpu" else 8192
    if precision == "int8":
        a, b = (torch.randint(-100, 100, (size, size), dtype=torch.int8) for _ in range(2))

        def multiply() -> torch.Tensor:
            return torch._int_mm(a, b)
    else:
        a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))

        def multiply() -> float:
            return (a @ b)[0, 0].item()  # waits for a GPU

    return max(2 * size**3 / timed(multiply)[0] for _ in range(20))


def churn_probabilities(shop: Path, fidelity: float) -> np.ndarray:
    """Probabilities of the champion of a built shop for its newest snapshot, all its texts read anew."""
    with tempfile.TemporaryDirectory(prefix="churn-radar-encoding-") as folder:
        home = Path(folder) / "home"
        shutil.copytree(shop, home, ignore=shutil.ignore_patterns("embeddings", "raw"))
        env = dbt.environment(home) | {"CHURN_RAW_DIR": str(shop / "raw"), "CHURN_ENCODER_FIDELITY": str(fidelity)}
        of_texts = ("--select", "review_embeddings+", "--exclude", "churn_model+")
        dbt.run("run", *of_texts, variables={"churn__train": "never"}, env=env, quiet=True)
        os.environ |= env
        model = registry.champion().model
        with duckdb.connect(str(home / "churn_radar.duckdb"), read_only=True) as connection:
            asked = connection.sql(
                "select customer_id, as_of_date from int_customer_snapshots where is_newest order by all"
            ).df()
        rows = snapshot_features(asked)
        return expit(model.logit(model.matrix(rows)))


def timed(call: Callable) -> tuple[float, object]:
    """Seconds of a call, and its answer."""
    started = time.perf_counter()
    answer = call()
    return time.perf_counter() - started, answer


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__, device=True)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shop", type=Path, help="a built CHURN_HOME, to see how far what its champion says moves")
    arguments = parser.parse_args()
    texts, complains = reviews(arguments.texts)
    with tempfile.TemporaryDirectory(prefix="churn-radar-encoding-") as folder:
        os.environ["CHURN_HOME"] = folder
        os.environ["CHURN_DEVICE"] = arguments.device
        encoders = {f: Encoder(EncoderSettings(device=arguments.device, fidelity=f)) for f in FIDELITIES}
        for encoder in encoders.values():
            encoder.load()
        plain = encoders[FIDELITIES[0]]._model
        lengths = np.array([len(ids) for ids in make_tokenizer(plain.tokenizer, plain.max_seq_length).tokenise(texts)])
        seconds, ratios = {name: [] for name in ("peer", *FIDELITIES)}, {name: [] for name in FIDELITIES}
        for _ in range(arguments.runs):
            taken, exact = timed(lambda: plain.encode(texts, show_progress_bar=False))
            seconds["peer"].append(taken)
            for fidelity, encoder in encoders.items():
                mine, vectors = timed(lambda encoder=encoder: encoder.encode(texts))
                seconds[fidelity].append(mine)
                ratios[fidelity].append(taken / mine)
                if len(ratios[fidelity]) == 1:
                    encoder.vectors = vectors
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        figures, n_texts = [], len(texts)
        # a model of words, as the members read one: how far do its probabilities move?
        model = LogisticRegression(max_iter=1000).fit(exact, complains)
        for fidelity, encoder in encoders.items():
            name = f"{encoder.runtime}, fidelity {fidelity:g}"
            rate, peer_rate = n_texts / middle[fidelity], n_texts / middle["peer"]
            ratio = statistics.median(ratios[fidelity])
            figures.append(suite.Figure(name, rate, peer_rate, "texts/s", ratio, TARGETS[fidelity]))
            norms = np.linalg.norm(encoder.vectors, axis=1) * np.linalg.norm(exact, axis=1)
            cosines = np.sum(encoder.vectors * exact, axis=1) / norms
            figures.append(
                suite.Figure(
                    "  mean cosine", float(cosines.mean()), 1.0, "", float(cosines.mean()), f"at least {fidelity:g}"
                )
            )
            moved = np.abs(expit(model.decision_function(encoder.vectors)) - expit(model.decision_function(exact)))
            for which, figure in (("on average", moved.mean()), ("at most", moved.max())):
                what = f"  a probability from words moves {which}"
                figures.append(suite.Figure(what, float(figure), 0.0, "", float(figure), "at most 0.005"))
            best = peak("int8" if "int8" in encoder.runtime else "bfloat16", arguments.device)
            done = operations(lengths, encoder) / middle[fidelity]
            figures.append(
                suite.Figure("  share of the peak of matrix products", done / 1e9, best / 1e9, "Gop/s", done / best)
            )
        if arguments.shop:
            shop = arguments.shop.resolve()
            believed = churn_probabilities(shop, 1)
            for fidelity in FIDELITIES:
                moved = np.abs(churn_probabilities(shop, fidelity) - believed)
                name = f"a churn probability moves %s, fidelity {fidelity:g}"
                for which, figure in (("on average", moved.mean()), ("in 99 of 100", np.quantile(moved, 0.99))):
                    figures.append(suite.Figure(name % which, float(figure), 0.0, "", float(figure), "at most 0.005"))
                within = float(np.mean(moved <= 0.005))
                figures.append(suite.Figure("  share that moves by 0.005 at most", within, 1.0, "", within))
            os.environ["CHURN_HOME"] = folder
        encoder = encoders[FIDELITIES[0]]
        corpus = {hash_text(text): text for text in texts}
        first, _ = timed(lambda: cached_vectors(encoder.revision, corpus, encoder.encode))
        again = []
        for run in range(arguments.runs):
            new = dict(list(corpus.items())[n_texts // 100 :])
            new |= {hash_text(text): text for text in reviews(n_texts // 100, seed=run + 1)[0]}
            again.append(timed(lambda new=new: cached_vectors(encoder.revision, new, encoder.encode))[0])
        second = statistics.median(again)
        figures.append(
            suite.Figure("second encode, 1 % new, of the first", second, first, "s", second / first, "at most 0.03")
        )
        title = f"Encoding {n_texts:,} reviews of {lengths.mean():.0f} tokens on average"
        peer = "SentenceTransformer.encode"
        suite.report("encoding", title, peer, figures, arguments.runs, arguments.forget, arguments.device)


if __name__ == "__main__":
    main()
