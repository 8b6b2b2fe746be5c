"""dataset.yaml: what somebody says about a data set where its files do not.

labels: {1: lesion, 255: lesion}    # value in a mask file: canonical name; 0 is background
unit: HU                            # or picture; guessed from a sample otherwise
lesions: none                       # lungs of images without a mask are free of lesions; nobody looked otherwise
modality: X-ray                     # or CT, as it is taken to be otherwise
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import yaml

from groundglass.case import MODALITIES, Case, Modality, Unit
from groundglass.data.dataset import Defect
from groundglass.errors import nearest
from groundglass.labels import BY_NAME, LABELS

FILE = "dataset.yaml"
KEYS = ("labels", "unit", "lesions", "modality")
DEFAULT_VALUES = MappingProxyType({label.value: label.name for label in LABELS})


@dataclass
class Settings:
    """values: what a value in a mask file means, by canonical name; named: whether the file says so, or it is the
    default; unit: None where nobody says; lesion_free: whether lungs without a mask hold no lesion; modality: of all
    images; defects: what is wrong with the file."""

    values: dict[int, str] = field(default_factory=lambda: dict(DEFAULT_VALUES))
    named: bool = False
    unit: Unit | None = None
    lesion_free: bool = False
    modality: Modality = "CT"
    defects: list[Defect] = field(default_factory=list)

    @property
    def named_values(self) -> Collection[str]:
        """The names that the file gives to values, none where it names none."""
        return self.values.values() if self.named else ()


def read_settings(folder: Path, keys: Sequence[str] = KEYS) -> Settings:
    """Read dataset.yaml in `folder`, if there is one; `keys` are those that this format knows. Nothing is raised."""
    settings = Settings()
    path = folder / FILE

    def bad(text: str) -> None:
        settings.defects.append(Defect("error", "bad-settings", path.name, None, text))

    if not path.is_file():
        return settings
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        bad(f"cannot be read ({error.strerror or type(error).__name__})")
        return settings
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        bad(f"is not readable YAML ({' '.join(str(error).split())[:120]})")
        return settings
    if not isinstance(content, dict):
        bad(f"must hold {' or '.join(f'{key}:' for key in keys)}")
        return settings
    for key in content:
        if key not in keys:
            bad(f"unknown setting '{key}'; {nearest(str(key), keys)}")
    if "unit" in content:
        known = {unit.value.lower(): unit for unit in (Unit.HU, Unit.PICTURE)}
        settings.unit = known.get(str(content["unit"]).lower())
        if settings.unit is None:
            bad(f"unknown unit '{content['unit']}'; choose from: HU, picture")
    if "lesions" in content:
        settings.lesion_free = isinstance(content["lesions"], str) and content["lesions"].lower() == "none"
        if not settings.lesion_free:
            bad("'lesions' can only be none: no lung of an image without a mask holds a lesion")
    if "modality" in content:
        said = {name.lower(): name for name in MODALITIES}.get(str(content["modality"]).lower())
        if said is None:
            bad(f"unknown modality '{content['modality']}'; choose from: {', '.join(MODALITIES)}")
        settings.modality = said or "CT"
        if settings.modality == "X-ray" and settings.unit is Unit.HU:
            bad("an X-ray has no Hounsfield units; write 'unit: picture' or leave it out")
    labels = content.get("labels")
    if "labels" in content and not (isinstance(labels, dict) and labels):
        bad("'labels' must map values to names, such as {1: lesion, 255: lesion}")
    elif labels:
        values = {0: "background"}
        for value, name in labels.items():
            if isinstance(value, bool) or not isinstance(value, int):
                bad(f"label value '{value}' is not a whole number")
            elif str(name) not in BY_NAME:
                bad(f"unknown label '{name}'; {nearest(str(name), BY_NAME)}")
            else:
                values[value] = str(name)
        settings.values = values
        settings.named = True
    return settings


def unknown_units(cases: Sequence[Case], beside: str) -> list[Defect]:
    """One warning for each source with images of unknown unit; `beside` says where dataset.yaml belongs."""
    unknown = [case for case in cases if case.unit is Unit.UNKNOWN]
    counts = Counter(case.source for case in unknown)
    files = {case.source: case.file for case in reversed(unknown)}
    return [
        Defect(
            "warning",
            "unknown-unit",
            files[source],
            None,
            f"the values of {count} images of '{source}' fit neither HU (air near -1000) nor a picture (0..255) "
            f"throughout; write 'unit: HU' or 'unit: picture' into {FILE} beside {beside}",
        )
        for source, count in counts.items()
    ]
