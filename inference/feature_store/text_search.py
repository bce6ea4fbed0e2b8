"""Search of customers' texts by meaning, with Feast's vector search."""

import sqlite3
import warnings

import pandas as pd
import pyarrow.parquet as pq

from inference.errors import ChurnRadarError
from inference.feature_store.client import open_store
from inference.home import home
from inference.text.cleaning import clean_text
from inference.text.encoder.encoder import Encoder

#: The feature view with the vectors, and the dbt model of the same name.
VIEW = "searchable_texts"
#: Columns of the answer, beside the id and the similarity.
SHOWN = ("kind", "written_at", "customer_id", "quote")
#: Online stores without a vector search of Feast's, and the variables that choose them.
ELSEWHERE = {"redis": "CHURN_REDIS", "postgres": "CHURN_ONLINE_SCHEMA"}


def find_similar(text: str, top: int) -> pd.DataFrame:
    """Find the reviews and tickets nearest in meaning to a text.

    Returns
    -------
    DataFrame
        At most ``top`` rows with ``text_id``, ``similarity`` (cosine) and ``SHOWN``, the most similar first.

    Raises
    ------
    ChurnRadarError
        If the text has no word, the shop has no texts, none are materialised, the online store is not SQLite, or the
        vectors are of another encoder.
    """
    if not clean_text(text):
        raise ChurnRadarError("there is no word to search for; expected some, such as 'parcel came broken'")
    revision = _built_revision()
    store = open_store()
    if variable := ELSEWHERE.get(store.config.online_store.type):
        raise ChurnRadarError(
            f"{variable} is set, but texts are searched in SQLite; unset it and run feast apply and feast materialize"
        )
    from feast.errors import FeatureViewNotFoundException
    from feast.filter_models import ComparisonFilter

    encoder = Encoder()
    if encoder.revision != revision:
        raise ChurnRadarError(
            f"the shop's texts were read by encoder revision {revision}, but {encoder.settings.name} is revision "
            f"{encoder.revision} on {encoder.device}; expected the same: set CHURN_ENCODER and CHURN_DEVICE as they "
            "were, or run dbt build and feast materialize"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = store.retrieve_online_documents_v2(
                [f"{VIEW}:{name}" for name in SHOWN],
                top_k=top,
                query=encoder.encode([text])[0].tolist(),
                # vectors of an earlier encoder are not comparable
                filters=ComparisonFilter(type="eq", key="encoder_revision", value=revision),
            )
    except (FeatureViewNotFoundException, sqlite3.OperationalError) as error:
        raise ChurnRadarError(
            f"the online store has no {VIEW} yet; run feast apply and feast materialize ({error})"
        ) from None
    texts = pd.DataFrame(answer.to_dict())
    if texts.empty:
        raise ChurnRadarError("no text of this encoder is in the online store; run feast materialize first")
    texts = texts.assign(similarity=1 - texts.distance).drop(columns="distance")
    return texts.sort_values(["similarity", "text_id"], ascending=[False, True], ignore_index=True)


def _built_revision() -> str:
    """Encoder revision of the newest build's text embeddings."""
    file = home() / "features" / f"{VIEW}.parquet"
    if not file.exists():
        raise ChurnRadarError(f"{file}: no such file; run dbt build first")
    revisions = pq.read_table(file, columns=["encoder_revision"])["encoder_revision"]
    if not len(revisions):
        raise ChurnRadarError("the shop has no review or ticket with words; expected at least one")
    return revisions[0].as_py()
