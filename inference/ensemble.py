"""The churn model: an average of members in log-odds, a spend model, and how to set the level."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from lightgbm.basic import LightGBMError
from scipy.special import expit

from inference.errors import ChurnRadarError
from inference.members import MEMBERS, Member
from inference.spend import SpendModel
from inference.words import EMBEDDING, WORDS_LOGIT, WordsModel, embedding_matrix


@dataclass
class ChurnModel:
    """A trained model; it holds no data and knows no files but its own.

    Parameters
    ----------
    features : list of str
        Columns that it reads, in order.
    members : list of Member
        What is averaged.
    spend : SpendModel
        Expected spend of a customer who orders.
    anchor : str
        How the level is set; see ``inference.calibration``.
    threshold : float
        Probability from which on a customer is called a churner, for F1 and recall.
    horizon_days : int
        Length of the label window.
    words : WordsModel, optional
        Reads the pooled embedding, where words earned their place.
    encoder_revision : str, optional
        The encoder whose embeddings ``words`` learned from.
    details : dict
        What is known about its training and validation; JSON.
    """

    features: list[str]
    members: list[Member]
    spend: SpendModel
    anchor: str
    threshold: float
    horizon_days: int
    words: WordsModel | None = None
    encoder_revision: str | None = None
    details: dict = field(default_factory=dict)

    @property
    def reads(self) -> list[str]:
        """Columns of the feature tables that it reads."""
        return [EMBEDDING if name == WORDS_LOGIT else name for name in self.features]

    def matrix(self, features: pd.DataFrame) -> pd.DataFrame:
        """Pick the model's columns as float64, the log-odds of the words among them where it reads words.

        Raises
        ------
        ChurnRadarError
            If a column is missing.
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
        return X.assign(**{WORDS_LOGIT: logit})[self.features]

    def member_logits(self, X: pd.DataFrame) -> dict[str, np.ndarray]:
        """Log-odds of every member, each of shape (n_rows,)."""
        return {member.name: member.logit(X) for member in self.members}

    def logit(self, X: pd.DataFrame) -> np.ndarray:
        """Mean log-odds of the members, before the level is set, shape (n_rows,)."""
        return np.mean(list(self.member_logits(X).values()), axis=0)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities of staying and of churn at the model's own level, shape (n_rows, 2)."""
        churn = expit(self.logit(X))
        return np.column_stack([1 - churn, churn])

    def contributions(self, X: pd.DataFrame) -> np.ndarray:
        """SHAP values of the average in log-odds, shape (n_rows, n_features + 1), base value last."""
        return np.mean([member.contributions(X) for member in self.members], axis=0)

    def save(self, folder: Path) -> None:
        """Write the model's files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for member in self.members:
            member.save(folder)
        self.spend.save(folder)
        if self.words is not None:
            self.words.save(folder)
        config = {
            "features": self.features,
            "members": [member.name for member in self.members],
            "spend_mean": self.spend.mean_,
            "spend_scale": self.spend.scale_,
            "anchor": self.anchor,
            "threshold": self.threshold,
            "horizon_days": self.horizon_days,
            "reads_words": self.words is not None,
            "encoder_revision": self.encoder_revision,
            "details": self.details,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        ChurnRadarError
            If the folder holds no complete model.
        """
        try:
            config = json.loads((folder / "config.json").read_text())
            return cls(
                features=config["features"],
                members=[MEMBERS[name].load(folder) for name in config["members"]],
                spend=SpendModel.load(folder, config["spend_mean"], config["spend_scale"]),
                anchor=config["anchor"],
                threshold=config["threshold"],
                horizon_days=config["horizon_days"],
                words=WordsModel.load(folder) if config["reads_words"] else None,
                encoder_revision=config["encoder_revision"],
                details=config["details"],
            )
        except (OSError, KeyError, TypeError, ValueError, LightGBMError, zipfile.BadZipFile) as error:
            raise ChurnRadarError(f"{folder}: no complete churn model there ({error})") from None


def feature_matrix(features: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Columns as float64, null where unknown."""
    return features[names].apply(pd.to_numeric).astype(np.float64)
