"""The churn model: members whose log-odds are averaged, a spend model, and the anchor of the level."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from inference.errors import ChurnRadarError
from inference.features.attributes import PACKED, PREFIX, attribute_matrix
from inference.model.lexical import LEXICAL, LexicalModel, texts_of
from inference.model.members import MEMBERS, Member
from inference.model.sequences import Columns, Sequences, read_sequences
from inference.model.spend import SpendModel
from inference.model.training_summary import TrainingSummary
from inference.model.words import EMBEDDING, WORDS_LOGIT, WordsModel, embedding_matrix

if TYPE_CHECKING:  # its libraries take seconds to import; not every model has a transformer
    from inference.model.transformer.member import TransformerMember

VALIDATION_FILE = "validation.parquet"
REFERENCE_FILE = "drift_reference.parquet"


@dataclass
class ChurnModel:
    """A trained model."""

    features: list[str]  # its input columns, in order
    members: list[Member]  # classifiers on the features; words and the transformer add to the mean of their log-odds
    spend: SpendModel
    anchor: str  # how the level is set; see inference.model.level
    threshold: float  # probability from which a customer counts as a predicted churner, for F1 and recall
    horizon_days: int  # length of the label window
    words: WordsModel | None = None  # where text embeddings are used
    lexical: LexicalModel | None = None  # where single words are used; it adds to the log-odds of every member
    transformer: "TransformerMember | None" = None  # where sequences of events and texts are used
    averaged: list[str] | None = None  # names of the members whose log-odds are averaged; None for all
    #: The encoder whose embeddings ``words`` learned from, or whose weights the transformer started from, if any.
    encoder_revision: str | None = None
    summary: TrainingSummary = field(default_factory=TrainingSummary)
    #: Out-of-time predictions of later snapshots by row: outcome, log-odds of every member and variant, and the
    #: probability at the level of the anchor.
    validation: pd.DataFrame | None = None
    #: Distributions that drift is measured against; see ``inference.training.drift_reference``.
    reference: pd.DataFrame | None = None

    @property
    def names(self) -> list[str]:
        """Names of the members whose log-odds are averaged."""
        return self.averaged or [member.name for member in self.members]

    @property
    def reads_words(self) -> bool:
        """Whether any part of it reads texts of customers."""
        return self.lexical is not None or self.reads_embeddings

    @property
    def reads_embeddings(self) -> bool:
        """Whether any part of it reads texts by the encoder."""
        return self.words is not None or (self.transformer is not None and self.transformer.reads_words)

    @property
    def reads_sequences(self) -> bool:
        """Whether any part of it reads sequences of events or texts."""
        return self.lexical is not None or self.transformer is not None

    @property
    def reads(self) -> list[str]:
        """Columns of the feature tables that are its inputs."""
        packed = {WORDS_LOGIT: EMBEDDING} | {name: PACKED for name in self.features if name.startswith(PREFIX)}
        return list(dict.fromkeys(packed.get(name, name) for name in self.features))

    def matrix(self, features: Columns) -> pd.DataFrame:
        """Select the model's features as float64, with the words' log-odds where text embeddings are used.

        Raises ChurnRadarError if a column is missing.
        """
        missing = [name for name in self.reads if name not in features]
        if missing:
            raise ChurnRadarError(
                f"features {', '.join(missing[:5])} are missing; the model was trained with them: retrain it"
            )
        X = feature_matrix(features, [name for name in self.features if name != WORDS_LOGIT])
        if self.words is None:
            return X
        embeddings = embedding_matrix(features)
        logit = np.nan if embeddings is None else self.words.transform(embeddings)
        values = np.insert(X.to_numpy(), self.features.index(WORDS_LOGIT), logit, axis=1)
        return pd.DataFrame(values, columns=self.features, index=X.index)

    def inputs(self, rows: Columns) -> tuple[pd.DataFrame, Sequences | None]:
        """Features and, where a part of the model reads them, sequences of rows of the feature tables."""
        return self.matrix(rows), read_sequences(rows) if self.reads_sequences else None

    def member_logits(self, X: pd.DataFrame, sequences: Sequences | None = None) -> dict[str, np.ndarray]:
        """Log-odds of every member that is averaged, each of shape (n_rows,)."""
        lexical = self._lexical_residual(sequences)
        logits = {member.name: member.logit(X) + lexical for member in self.members}
        if self.transformer is not None:
            assert sequences is not None, "the transformer needs sequences, which ``inputs`` reads"
            tabular = np.mean(list(logits.values()), axis=0)
            logits[self.transformer.name] = self.transformer.logit(X, sequences, tabular)
        return {name: logits[name] for name in self.names}

    def logit(self, X: pd.DataFrame, sequences: Sequences | None = None) -> np.ndarray:
        """Mean log-odds of the members, before the level is set, shape (n_rows,)."""
        return np.mean(list(self.member_logits(X, sequences).values()), axis=0)

    def contributions(self, X: pd.DataFrame, sequences: Sequences | None = None) -> pd.DataFrame:
        """Contributions to the log-odds of the average: SHAP values by feature, ``LEXICAL``, the transformer's parts.

        The sum of a row is its log-odds less the base value.
        """
        of_members = {member.name: member.contributions(X)[:, :-1] for member in self.members}
        tabular: np.ndarray = np.mean(list(of_members.values()), axis=0)
        averaged = np.mean([of_members.get(name, tabular) for name in self.names], axis=0)
        result = pd.DataFrame(averaged, columns=list(X.columns), index=X.index)
        lexical = self._lexical_residual(sequences)
        if self.lexical is not None:
            result[LEXICAL] = lexical
        if self.transformer is not None:
            assert sequences is not None, "the transformer needs sequences, which ``inputs`` reads"
            logits = np.mean([member.logit(X) for member in self.members], axis=0) + lexical
            result[list(self.transformer.parts)] = self.transformer.contributions(X, sequences, logits) / len(
                self.names
            )
        return result

    def _lexical_residual(self, sequences: Sequences | None) -> np.ndarray | float:
        if self.lexical is None:
            return 0.0
        assert sequences is not None, "the lexical model needs sequences, which ``inputs`` reads"
        return self.lexical.residual(texts_of(sequences))

    def save(self, folder: Path) -> None:
        """Write the model's files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for member in self.members:
            member.save(folder)
        self.spend.save(folder)
        if self.words is not None:
            self.words.save(folder)
        if self.lexical is not None:
            self.lexical.save(folder)
        if self.transformer is not None:
            self.transformer.save(folder)
        config = {
            "features": self.features,
            "members": [member.name for member in self.members],
            "spend_mean": self.spend.mean_,
            "spend_scale": self.spend.scale_,
            "anchor": self.anchor,
            "threshold": self.threshold,
            "horizon_days": self.horizon_days,
            "has_words": self.words is not None,
            "has_lexical": self.lexical is not None,
            "has_transformer": self.transformer is not None,
            "averaged": self.averaged,
            "encoder_revision": self.encoder_revision,
            "details": asdict(self.summary),
        }
        if self.validation is not None:
            self.validation.to_parquet(folder / VALIDATION_FILE, index=False)
        if self.reference is not None:
            self.reference.to_parquet(folder / REFERENCE_FILE, index=False)
        (folder / "config.json").write_text(json.dumps(config, indent=2))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; raise ChurnRadarError if the folder holds no complete model."""
        try:
            config = json.loads((folder / "config.json").read_text())
            transformer = None
            if config["has_transformer"]:
                from inference.model.transformer.member import TransformerMember

                transformer = TransformerMember.load(folder)
            return cls(
                features=config["features"],
                members=[MEMBERS[name].load(folder) for name in config["members"]],
                spend=SpendModel.load(folder, config["spend_mean"], config["spend_scale"]),
                anchor=config["anchor"],
                threshold=config["threshold"],
                horizon_days=config["horizon_days"],
                words=WordsModel.load(folder) if config["has_words"] else None,
                lexical=LexicalModel.load(folder) if config.get("has_lexical") else None,
                transformer=transformer,
                averaged=config["averaged"],
                encoder_revision=config["encoder_revision"],
                summary=TrainingSummary.from_dict(config["details"]),
                validation=pd.read_parquet(file) if (file := folder / VALIDATION_FILE).exists() else None,
                reference=pd.read_parquet(file) if (file := folder / REFERENCE_FILE).exists() else None,
            )
        except Exception as error:  # each file format raises errors of its own
            raise ChurnRadarError(f"no complete churn model there ({error})") from None


def feature_matrix(features: Columns, names: list[str]) -> pd.DataFrame:
    """Columns as float64, null where unknown; attributes of customers are unpacked."""
    packed = [name for name in names if name.startswith(PREFIX)]
    plain = [name for name in names if name not in packed]
    if not isinstance(features, pd.DataFrame):
        X = pd.DataFrame(np.array([features[name] for name in plain], dtype=np.float64).T, columns=plain)
        return X.join(attribute_matrix(pd.Series(features[PACKED]), packed))[names] if packed else X
    X = features[plain]
    if not all(dtype == np.float64 for dtype in X.dtypes):
        X = X.apply(pd.to_numeric).astype(np.float64)
    return X.join(attribute_matrix(features[PACKED], packed))[names] if packed else X
