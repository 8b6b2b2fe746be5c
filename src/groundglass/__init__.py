"""groundglass: segment COVID-19 findings in chest images, and measure them honestly.

Research software, not a medical device.

Every verb of the command line is a function here with the same arguments. Importing this needs no torch; the
functions that train or predict ask for it when they are called.

    import groundglass as gg
    run = gg.train("demo", "phantom:16", out="runs/first")
    print(gg.evaluate([run], "phantom:16").summary.benchmark("any_lesion_dice"))
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundglass.data.opening import open_dataset as open_dataset
    from groundglass.run import Run as Run
    from groundglass.workflows.catalogue import catalogue as catalogue
    from groundglass.workflows.check import check as check
    from groundglass.workflows.compare import compare as compare
    from groundglass.workflows.cv import cv as cv
    from groundglass.workflows.demo import demo as demo
    from groundglass.workflows.evaluate import evaluate as evaluate
    from groundglass.workflows.predict import predict as predict
    from groundglass.workflows.recipe import recipe as recipe
    from groundglass.workflows.submit import submit as submit
    from groundglass.workflows.train import train as train

__version__ = version("groundglass")

_WHERE = {
    "open_dataset": "groundglass.data.opening",
    "Run": "groundglass.run",
    **{
        verb: f"groundglass.workflows.{verb}"
        for verb in ("catalogue", "check", "compare", "cv", "demo", "evaluate", "predict", "recipe", "submit", "train")
    },
}
__all__ = sorted(["__version__", *_WHERE])


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'groundglass' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
