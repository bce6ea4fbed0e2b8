"""What customers wrote that is nearest in meaning to a few words, found by Feast."""

import sqlite3
import warnings

import pandas as pd
import pyarrow.parquet as pq

from inference.errors import ChurnRadarError
from inference.feature_store.client import open_store
from inference.home import home
from inference.text.cleaning import clean_text
from inference.text.encoder.encoder import Encoder

#: The feature view that is searched; a dbt model as well.
VIEW = "searchable_texts"
#: What is told of each text that is found.
SHOWN = ("kind", "written_at", "customer_id", "quote")


def find_similar(text: str, top: int) -> pd.DataFrame:
    """Find the reviews and tickets that mean nearly what a text means.

    Parameters
    ----------
    text : str
        A few words.
    top : int
        How many to find at most.

    Returns
    -------
    DataFrame
        ``text_id``, ``similarity`` (cosine) and the columns of ``SHOWN``, the most similar first.

    Raises
    ------
    ChurnRadarError
        If there is no word in the text, no text in the shop, nothing materialised, an online store that
        cannot search, or vectors of another encoder only.
    """
    if not clean_text(text):
        raise ChurnRadarError("there is no word to search for; expected some, such as 'parcel came broken'")
    revision = _built_revision()
    store = open_store()
    if store.config.online_store.type == "postgres":
        raise ChurnRadarError(
            "CHURN_ONLINE_SCHEMA is set, but texts are searched in SQLite; unset it and run feast materialize again"
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
                # what an earlier encoder left in the store is not comparable
                filters=ComparisonFilter(type="eq", key="encoder_revision", value=revision),
            )
    except (FeatureViewNotFoundException, sqlite3.OperationalError) as error:
        raise ChurnRadarError(
            f"the online store has no {VIEW} yet; run feast apply and feast materialize ({error})"
        ) from None
    except NotImplementedError:
        raise ChurnRadarError(
            "CHURN_REDIS is set, but Feast cannot search vectors in Redis; unset it and run feast materialize again"
        ) from None
    found = pd.DataFrame(answer.to_dict())
    if found.empty:
        raise ChurnRadarError("no text of this encoder is in the online store; run feast materialize first")
    found = found.assign(similarity=1 - found.distance).drop(columns="distance")
    return found.sort_values(["similarity", "text_id"], ascending=[False, True], ignore_index=True)


def _built_revision() -> str:
    """Revision of the encoder that read the texts of the newest build."""
    file = home() / "features" / f"{VIEW}.parquet"
    if not file.exists():
        raise ChurnRadarError(f"{file}: no such file; run dbt build first")
    revisions = pq.read_table(file, columns=["encoder_revision"])["encoder_revision"]
    if not len(revisions):
        raise ChurnRadarError("the shop has no review or ticket with words; expected at least one")
    return revisions[0].as_py()
