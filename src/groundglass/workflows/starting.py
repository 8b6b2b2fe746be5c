"""Training that begins where another run ended: its weights, and the cases that it has seen."""

from __future__ import annotations

from pathlib import Path

from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.splits import Split
from groundglass.errors import RunError
from groundglass.run import Run
from groundglass.workflows.measuring import joined_groups


def start_run(start_from: str | Path, fold: str | None, split: Split, dataset: Dataset, scan: Scan) -> Run:
    """The run to begin from: `start_from` itself, or of a cross-validation's folder the same fold.

    Raises `RunError` when there is none, or when it has trained on a case that validates or tests here, or on the
    patient, volume or twin of one: no score of the new run would be held out.
    """
    folder = Path(start_from)
    if fold is not None and not (folder / "run.json").is_file():
        k, n = fold.split("/")
        folder = folder / f"fold{k}of{n}"
    start = Run.open(folder)
    start.need_weights()
    seen = start.trained_hashes()
    group = joined_groups(dataset, scan.twins.clusters if scan.twins else ())
    known = {group[case_id] for case_id, digest in scan.hashes.items() if digest in seen}
    leaked = [case_id for case_id in (*split.validation, *split.test) if group[case_id] in known]
    if leaked:
        raise RunError(
            f"--start-from {folder}: has trained on {len(leaked)} of the cases that are held out here, or on their "
            f"like, such as {leaked[0]}; start from a run of the same fold and division"
        )
    return start
