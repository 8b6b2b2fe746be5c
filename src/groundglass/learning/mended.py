"""Lightning, mended first: it imports torchmetrics, which imports torchvision wherever that is installed."""

from groundglass.networks.torchvision_mend import mend

mend()

import lightning  # noqa: E402

__all__ = ["lightning"]
