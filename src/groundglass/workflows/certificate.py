"""The leak certificate of a run: made when its training begins, with pictures of what the split divides."""

from __future__ import annotations

from collections.abc import Sequence

from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.leaks import certify
from groundglass.files import write_json
from groundglass.run import Run
from groundglass.show.pairs import draw_pairs


def write_certificate(run: Run, dataset: Dataset, scan: Scan) -> None:
    """Write leaks.json of a run, and leaks.png where twins lie on two sides of its split."""
    elsewhere = len(set(run.manifest.earlier_hashes) - set(scan.hashes.values()))
    certificate = certify(dataset, scan.fingerprint, scan.twins, run.split, elsewhere)
    write_json(run.leaks, certificate.model_dump(mode="json"))
    found = certificate.leaks or certificate.across
    if found:
        first, second = found[0].first_side, found[0].second_side
        # The pictures are of one border, the gravest; the file holds all pairs.
        pairs = [
            (dataset.case(pair.first), dataset.case(pair.second), f"{pair.kind} {pair.confidence:.3f}")
            for pair in found
            if (pair.first_side, pair.second_side) == (first, second)
        ]
        title = f"Twins on two sides of the split: {first} above, {second} below"
        draw_pairs(pairs, run.leaks.with_suffix(".png"), title, (first.capitalize(), second.capitalize()))


def told(runs: Sequence[Run], scan: Scan) -> list[str]:
    """The certificates of runs in a few sentences, for a score on the data of `scan`. Raises `RunError`."""
    found = [(run, run.certificate()) for run in runs]
    lines: list[str] = []
    for run, certificate in found:
        name = f"{run.path.name}: " if len(runs) > 1 else ""
        if certificate is None:
            lines.append(f"{name}leak certificate: none; nothing is known about near duplicates across its split")
        elif certificate.data_fingerprint != scan.fingerprint:
            lines.append(
                f"{name}leak certificate: nothing was searched between these cases and those it was trained on, but "
                "for equal pixels; 'groundglass check' of both data sets together finds near duplicates"
            )
        elif len(runs) == 1:
            lines += certificate.lines()
        else:
            lines.append(
                f"{name}leak certificate: {certificate.verdict} ({len(certificate.leaks)} pairs between training and "
                f"scored cases among {certificate.n_images} images searched)"
            )
        if certificate is not None and certificate.leaks and certificate.data_fingerprint == scan.fingerprint:
            lines.append(f"{name}the pairs as pictures: {run.leaks.with_suffix('.png')}")
    return lines


def leak_notes(runs: Sequence[Run], scan: Scan) -> list[str]:
    """What a leak means for a score on the data of `scan`; empty where no leak is known."""
    found = [(run.path.name, run.certificate()) for run in runs]
    leaky = [
        (name, certificate)
        for name, certificate in found
        if certificate is not None
        and certificate.data_fingerprint == scan.fingerprint
        and certificate.verdict.startswith("leaky")
    ]
    return [
        f"{name}: {certificate.divided or certificate.verdict}; {len(certificate.leaks)} near duplicates lie on both "
        "sides: the score is too good"
        for name, certificate in leaky
    ]
