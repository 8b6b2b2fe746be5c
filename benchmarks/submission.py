"""How long does a Kaggle submission of 5,242,880 rows take to write, and how much memory?

    python -m benchmarks.submission [--images N] [--rounds N] [--json FILE]

Ten masks of 512 x 512 become a file of 53 MB. `groundglass` is `write_submission` as `groundglass submit` calls it: it
writes, then reads the file again and compares. `writing alone` leaves the second half out and is what can be compared
with the csv module, which does not verify. All ways write through the same atomic file, flushed to the disk. Each
answers in a fresh process, taking turns. After the clock has stopped, the SHA-256 of every file is taken, with line
ends made equal (the csv module writes CR LF): the ways must agree on every byte.

`memory` is the peak above what the process held before: the rest is Python and its modules.
"""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import Answer, Child, Report, interleave, parser, peak_mb, resident_mb, seconds
from groundglass.files import atomic
from groundglass.labels import BY_NAME
from groundglass.write import submission

WAYS = ("groundglass", "groundglass, writing alone", "csv writerows", "csv writerow")


def measure(way: str, images: int, folder: str) -> Answer:
    """Seconds, memory in MB and the content's hash of one way to write `images` masks."""
    path = Path(folder) / "submission.csv"
    before = resident_mb()
    match way:
        case "groundglass":
            taken = seconds(lambda: submission.write_submission(path, masks(images)))
        case "groundglass, writing alone":
            expected = sum(columns(m).size for m in masks(images)), sum(int(columns(m).sum()) for m in masks(images))
            with mock.patch.object(submission, "verify", return_value=expected):
                taken = seconds(lambda: submission.write_submission(path, masks(images)))
        case "csv writerow":
            taken = seconds(lambda: write_with_csv(path, images, whole_mask=False))
        case _:
            taken = seconds(lambda: write_with_csv(path, images, whole_mask=True))
    memory = peak_mb() - before
    return {"s": taken, "memory_mb": memory, "bytes": path.stat().st_size, "sha256": content_hash(path)}


def masks(images: int) -> Iterator[NDArray[np.uint8]]:
    """Label maps [512, 512] with every canonical value of the competition, the same in every process."""
    random = np.random.default_rng(0)
    return (random.integers(0, 4, (512, 512), dtype=np.uint8) for _ in range(images))


def columns(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The submission's values of one mask, in its order."""
    return np.stack([labels == BY_NAME[name].value for name in submission.CLASSES], axis=-1).ravel()


def write_with_csv(path: Path, images: int, whole_mask: bool) -> None:
    """As one would with the standard library: a row a call, or all rows of a mask a call."""
    first = 0
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="ascii") as out:
        writer = csv.writer(out)
        writer.writerow(("Id", "Predicted"))
        for labels in masks(images):
            values = columns(labels).astype(np.uint8).tolist()
            if whole_mask:
                writer.writerows(enumerate(values, first))
            else:
                for row in enumerate(values, first):
                    writer.writerow(row)
            first += len(values)


def content_hash(path: Path) -> str:
    """SHA-256 of a file with LF line ends."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for line in file:
            digest.update(line.replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def main() -> None:
    made = parser(__doc__, rounds=3)
    made.add_argument("--images", type=int, default=10, help="masks of 512 x 512 (default 10)")
    options = made.parse_args()
    rows = options.images * 512 * 512 * 2
    report = Report("How long does a Kaggle submission take to write, and how much memory?")
    with tempfile.TemporaryDirectory() as folder, Child("benchmarks.submission") as child:
        variants = {way: partial(child.ask, way=way, images=options.images, folder=folder) for way in WAYS}
        answers = interleave(variants, options.rounds)
    slowest = answers["csv writerow"]["s"]
    report.table(
        f"{rows:,} rows, median of {options.rounds}",
        ["way", "s", "faster than csv writerow", "memory MB", "content (sha256)"],
        [(w, a["s"], f"{slowest / a['s']:.1f}x", round(a["memory_mb"]), a["sha256"][:12]) for w, a in answers.items()],
    )
    same = len({answer["sha256"] for answer in answers.values()}) == 1
    report.table("Content", ["check", "answer"], [("all ways wrote the same rows", same)])
    report.write(options.json)
    assert same, "the ways do not agree on the content"


if __name__ == "__main__":
    main()
