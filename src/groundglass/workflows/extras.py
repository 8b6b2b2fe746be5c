"""Optional packages: asked for by the verb that needs them, named when they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from groundglass.errors import DependencyError


def need_train() -> None:
    """Raise `DependencyError` unless the packages of the extra `train` are installed."""
    for module in ("torch", "lightning", "segmentation_models_pytorch", "monai", "skimage"):
        if find_spec(module) is None:
            raise DependencyError(
                f"this needs the package '{module}', which is not installed; pip install 'groundglass[train]'"
            )
