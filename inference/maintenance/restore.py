"""A home folder made again from a backup, and tried."""

import json
from pathlib import Path

from inference.errors import ChurnRadarError
from inference.home import home
from inference.home_format import FORMAT
from inference.maintenance.backup import FILES, MANIFEST, copy, made_whole, private_files
from inference.maintenance.contents import published_scores
from inference.progress import track


def restore(folder: Path) -> dict:
    """Make the home folder from a backup whose files all have their checksums; return the backup's manifest.

    It is written beside and takes its name at the end. ChurnRadarError if the home is not empty, or the backup is
    incomplete, damaged, or of a later version.
    """
    state = home().resolve()
    if state.exists() and (not state.is_dir() or any(state.iterdir())):
        raise ChurnRadarError(f"{state} is not empty; expected a CHURN_HOME that is empty or does not exist yet")
    manifest = read_manifest(folder)
    damaged = []
    with private_files(), made_whole(state) as beside:
        for name, expected in track(list(manifest["files"].items()), "Restoring"):
            target = beside / name
            if not target.resolve().is_relative_to(beside.resolve()):
                raise ChurnRadarError(f"{folder / MANIFEST}: names {name}; expected files inside the home alone")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with (folder / FILES / name).open("rb") as opened:
                    if copy(opened, target) != expected:
                        damaged.append(f"{name} is damaged")
            except FileNotFoundError:
                damaged.append(f"{name} is missing")
        if damaged:
            more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
            raise ChurnRadarError(
                f"{folder}: {', '.join(damaged[:5])}{more}; expected the files as they were backed up; "
                "nothing was restored"
            )
    return manifest


def read_manifest(folder: Path) -> dict:
    """Read the manifest of a backup; ChurnRadarError if it is none, or of a later version."""
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        newest = manifest["format"] > FORMAT
        manifest["files"].items()
    except FileNotFoundError:
        raise ChurnRadarError(f"{file}: no such file; expected a folder that churn-radar backup made") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ChurnRadarError(f"{file}: is damaged; expected it as churn-radar backup wrote it") from None
    if newest:
        raise ChurnRadarError(
            f"{folder}: made by Churn Radar {manifest['churn_radar']} in format {manifest['format']}; expected that "
            f"version or a later one, as this one reads format {FORMAT}"
        )
    return manifest


def trial_lookup() -> str:
    """Look a customer of the newest scores up online, as ``churn-radar explain`` does, and say what was found.

    A store that does not answer is a ChurnRadarError; one that was not loaded yet is not.
    """
    scores, load = published_scores(home()), "run feast apply and feast materialize"
    if scores is None:
        return "nothing to look up yet"
    if not (home() / "feast" / "registry.db").exists():
        return f"not looked up, as there is no feature store yet: {load}"
    from inference.feature_store.client import online_scores

    try:
        found = online_scores([scores.customer_id])
    except Exception as error:
        raise ChurnRadarError(
            f"{home()} is restored, but looking customer {scores.customer_id} up online failed "
            f"({type(error).__name__}: {error}): {load}"
        ) from None
    if found.empty:
        return f"customer {scores.customer_id} is not in the online store: {load}"
    return f"customer {scores.customer_id} looked up online: {found.churn_probability.iloc[0]:.4f}"
