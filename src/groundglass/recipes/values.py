"""What the settings of a recipe are made of: bounded numbers, intervals, and a strict model."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
Grey8 = Annotated[float, Field(ge=0, le=255)]
Interval = tuple[float, float]


def ascending(value: Interval) -> Interval:
    if value[0] >= value[1]:
        raise ValueError(f"the lower bound {value[0]:g} must lie below the upper bound {value[1]:g}")
    return value


# Bounds that a value is drawn between may be equal: then nothing is drawn.
def not_descending(value: Interval) -> Interval:
    if value[0] > value[1]:
        raise ValueError(f"the lower bound {value[0]:g} must not lie above the upper bound {value[1]:g}")
    return value


Range = Annotated[tuple[Positive, Positive], AfterValidator(not_descending)]


class Strict(BaseModel):
    """Unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
