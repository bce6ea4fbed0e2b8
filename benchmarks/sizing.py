"""How the cost of reading texts grows with their number and length, on a processor or a GPU.

    python benchmarks/sizing.py
    python benchmarks/sizing.py --device cuda --texts 1000 4000 16000 64000

Texts are those of ``encoding.py``. The encoder's runtime is the one that it chooses; beside it stands
``SentenceTransformer.encode`` with its defaults on the same device. On a GPU every runtime of torch is measured as
well: what texts end to end save over padded ones, and what bfloat16 does.
"""

import os
import statistics
import tempfile

import suite
from encoding import MEAN_TOKENS, reviews, timed

from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings

#: Different texts that are made; more of them are these with a number behind.
MADE = 4000


def texts_of(n_texts: int, mean_tokens: float = MEAN_TOKENS) -> list[str]:
    """Make so many different texts."""
    made, _ = reviews(min(n_texts, MADE), mean_tokens=mean_tokens)
    return [made[i % MADE] + (f" {i // MADE}" if i >= MADE else "") for i in range(n_texts)]


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__, device=True)
    parser.add_argument("--texts", type=int, nargs="+", default=[500, 1000, 2000, 4000, 8000])
    parser.add_argument("--tokens", type=int, nargs="+", default=[10, 20, 40, 80, 160], help="of a text, on average")
    parser.add_argument("--at-length", type=int, default=1000, help="how many texts of each length")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="churn-radar-sizing-") as folder:
        os.environ |= {"CHURN_HOME": folder, "CHURN_DEVICE": arguments.device}
        encoder = Encoder(EncoderSettings(device=arguments.device))
        plain = Encoder(EncoderSettings(device=arguments.device, runtime="torch-float32"))._model

        def compare(what: str, texts: list[str]) -> suite.Figure:
            """Texts a second by both sides."""
            mine, theirs = [], []
            for _ in range(arguments.runs):
                mine.append(timed(lambda: encoder.encode(texts))[0])
                theirs.append(timed(lambda: plain.encode(texts, show_progress_bar=False))[0])
            rates = len(texts) / statistics.median(mine), len(texts) / statistics.median(theirs)
            ratio = statistics.median(their / my for my, their in zip(mine, theirs, strict=True))
            return suite.Figure(what, *rates, "texts/s", ratio)

        compare("not counted: it prepares", texts_of(arguments.texts[0]))
        figures = [compare(f"{n:,} texts", texts_of(n)) for n in arguments.texts]
        figures += [compare(f"{n} tokens each", texts_of(arguments.at_length, n)) for n in arguments.tokens]
        if arguments.device == "cuda":
            texts = texts_of(max(arguments.texts))
            for runtime in ("torch-float32", "torch-bfloat16"):
                of_this = Encoder(EncoderSettings(device="cuda", runtime=runtime))
                of_this.encode(texts)
                rate = len(texts) / statistics.median(
                    timed(lambda of_this=of_this: of_this.encode(texts))[0] for _ in range(arguments.runs)
                )
                peer_rate = figures[len(arguments.texts) - 1].peer
                figures.append(suite.Figure(runtime, rate, peer_rate, "texts/s", rate / peer_rate))
    title = f"Reading texts on {arguments.device}, by their number ({MEAN_TOKENS} tokens each) and length"
    peer = "SentenceTransformer.encode"
    suite.report("sizing", title, peer, figures, arguments.runs, arguments.forget, arguments.device, curve=True)


if __name__ == "__main__":
    main()
