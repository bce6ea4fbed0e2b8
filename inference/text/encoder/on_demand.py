"""The shop's encoder, loaded only where there is something to read: what was read before needs its revision alone."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from inference.errors import ChurnRadarError
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings, files_fingerprint, remembered


class EncoderOnDemand:
    """An encoder whose revision is remembered as long as its files and libraries are the same.

    Parameters
    ----------
    settings : EncoderSettings, optional
        From the environment where not given.
    """

    def __init__(self, settings: EncoderSettings | None = None) -> None:
        self.settings = settings or EncoderSettings.from_environment()

    @classmethod
    def shared(cls) -> "EncoderOnDemand":
        """Return that of the environment's settings, which a process has once."""
        return _shared(EncoderSettings.from_environment())

    @cached_property
    def revision(self) -> str:
        """Revision of the encoder, as it says when it is loaded."""
        known = remembered(files_fingerprint(self.settings))
        return known["revision"] if known else Encoder.shared(self.settings).revision

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; see ``Encoder.encode``."""
        was = self.revision
        encoder = Encoder.shared(self.settings)
        if encoder.revision != was:
            raise ChurnRadarError(
                f"encoder {self.settings.name} is revision {encoder.revision}, but was {was} when its files "
                "were last read; expected files that do not change while they are in use: run it again"
            )
        return encoder.encode(texts)


@lru_cache(maxsize=1)
def _shared(settings: EncoderSettings) -> EncoderOnDemand:
    return EncoderOnDemand(settings)
