"""The part of a page that shows near duplicates: counts, and the pictures of each cluster side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.data.links import ACROSS, Link, links, one_scans, tally
from groundglass.data.twins import Twins
from groundglass.show.naming import Names
from groundglass.show.page import Card, Section, Table
from groundglass.show.samples import thumbnail

# What is drawn at most; the rest is counted in words.
CLUSTERS, OF_A_CLUSTER, THUMBNAILS = 40, 5, 100
_PAIRS_IN_WORDS = 6


def near_duplicates(dataset: Dataset, twins: Twins | None, sets: Mapping[str, str], names: Names) -> Section:
    """What the search found, None where nobody searched; sets: case id -> data set, where several were opened.

    Raises `DataError` for an image that cannot be read any more.
    """
    heading = "Near duplicates"
    if twins is None:
        return Section(heading, "Nobody searched for near duplicates (--no-twins).")
    found = links(dataset, twins, sets)
    counts = tally(found, twins)
    text = (
        f"{counts['pairs']:,} pairs in {counts['clusters']:,} clusters among n = {counts['images']:,} images, found by "
        "what the images show, without labels, names or ids: the same picture (cropped, scaled, recompressed, or with "
        "other contrast), the same mirrored, or slices of one scan. Confidence is 1 less the number of pairs of "
        "strangers so alike that this search would be expected to find by chance; equal pixels have 1. Slices of one "
        "known patient or volume belong together anyway and are not compared."
    )
    if not found:
        return Section(heading, text)
    kinds = [[kind, n, *(_crossing(found, kind, name) for name in ACROSS)] for kind, n in counts["kinds"].items()]
    rows = [*kinds, ["all", counts["pairs"], *counts["across"].values()]]
    table = Table(["kind", "pairs", *(f"across {name}" for name in ACROSS)], rows, "Pairs, and what lies between them.")
    for volumes in one_scans(dataset, found):
        text += f"\n\n{names.text(str(volumes))}."
    cards = _cards(dataset, twins, found, names)
    more = counts["clusters"] - len(cards)
    text += f"\n\nShown are {len(cards)} clusters, those across the gravest border first"
    text += f"; {more:,} more are in the JSON report." if more else "."
    return Section(heading, text, tables=[table], cards=cards)


def _cards(dataset: Dataset, twins: Twins, found: Sequence[Link], names: Names) -> list[Card]:
    """A card a cluster, the gravest first, until so many clusters or pictures are shown."""
    cases = {case.id: case for case in (*dataset.cases, *dataset.test)}
    number = {case_id: n for n, cluster in enumerate(twins.clusters) for case_id in cluster}
    of_cluster: dict[int, list[Link]] = {}
    for link in found:
        of_cluster.setdefault(number[link.pair.first], []).append(link)
    cards: list[Card] = []
    pictures = 0
    for n, mine in list(of_cluster.items())[:CLUSTERS]:
        if pictures >= THUMBNAILS:
            break
        ids = list(dict.fromkeys(case_id for link in mine for case_id in (link.pair.first, link.pair.second)))
        shown = [(thumbnail(cases[i]), f"{names.place(cases[i])} ({_status(cases[i])})") for i in ids[:OF_A_CLUSTER]]
        pictures += len(shown)
        across = [name for name in ACROSS if any(name in link.across for link in mine)]
        heading = f"{len(twins.clusters[n])} images, {len(mine)} pair{'' if len(mine) == 1 else 's'}"
        heading += f", across {', '.join(across)}" if across else ", within one group"
        text = "; ".join(_in_words(link, names) for link in mine[:_PAIRS_IN_WORDS])
        rest = len(mine) - _PAIRS_IN_WORDS
        text += f"; and {rest} more pairs." if rest > 0 else "."
        if len(ids) > OF_A_CLUSTER:
            text += f" {len(ids) - OF_A_CLUSTER} more images are not shown."
        cards.append(Card(heading, shown, text))
    return cards


def _crossing(found: Sequence[Link], kind: str, border: str) -> int:
    return sum(link.pair.kind == kind and border in link.across for link in found)


def _status(case: Case) -> str:
    return f"{case.source}, {'unlabelled' if case.load_labels is None else 'labelled'}"


def _confidence(value: float) -> str:
    """Two digits, where rounding does not make it certain."""
    return f"{value:.2f}" if value == 1 or value < 0.995 else "above 0.99"


def _in_words(link: Link, names: Names) -> str:
    pair = f"{names.place(link.first)} and {names.place(link.second)}"
    return f"{pair}: {link.pair.kind.replace('-', ' ')}, confidence {_confidence(link.pair.confidence)}"
