"""Losses by name. Each takes logits [N, K, H, W], target [N, H, W] int64 and class weights [K] or None, and gives a
scalar; the recipe adds them up with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional

from groundglass.labels import LabelSet
from groundglass.recipes.settings import LossTerm
from groundglass.registry import LOSSES, load

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build(terms: Sequence[LossTerm], labels: LabelSet, class_pixels: Mapping[str, int]) -> Loss:
    """The recipe's weighted sum, computed in float32 whatever the precision of the network.

    class_pixels: pixels of each class in the training part, from which `balanced` weights follow.
    """
    parts = [(term.weight, load(LOSSES[term.name]), class_weights(term, labels, class_pixels)) for term in terms]

    def total(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        values = [
            weight * function(logits, target, None if weights is None else weights.to(logits.device))
            for weight, function, weights in parts
        ]
        return torch.stack(values).sum()

    return total


def class_weights(term: LossTerm, labels: LabelSet, class_pixels: Mapping[str, int]) -> torch.Tensor | None:
    """Weights [K] float32 in channel order. `balanced`: mean pixel count / class pixel count, the weight scikit-learn
    calls balanced; a class without pixels gets 0, for nothing can be learned of it. Classes not named weigh 1."""
    if term.class_weights is None:
        return None
    if isinstance(term.class_weights, dict):
        return torch.tensor([term.class_weights.get(name, 1.0) for name in labels.classes])
    counts = torch.tensor([float(class_pixels.get(name, 0)) for name in labels.classes])
    return torch.where(counts > 0, counts.mean() / counts.clamp(min=1), torch.zeros(()))


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean cross-entropy over pixels; with class weights, the weighted mean."""
    return functional.cross_entropy(logits, target, weight=weights)


def dice(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """1 - soft Dice over the whole batch, mean over classes (MONAI's DiceLoss, batch=True)."""
    from monai.losses import DiceLoss

    return DiceLoss(to_onehot_y=True, softmax=True, batch=True, weight=weights)(logits, target[:, None])


def focal(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Focal loss with gamma 2 over the softmax (Lin et al. 2017; MONAI's FocalLoss)."""
    from monai.losses import FocalLoss

    return FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0, weight=weights)(logits, target[:, None])


def tversky(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Tversky loss with alpha .3 (false positives) and beta .7 (false negatives) over the whole batch, mean over
    classes (Salehi et al. 2017; MONAI's TverskyLoss)."""
    from monai.losses import TverskyLoss

    per_class = TverskyLoss(to_onehot_y=True, softmax=True, alpha=0.3, beta=0.7, batch=True, reduction="none")(
        logits, target[:, None]
    ).flatten()
    return per_class.mean() if weights is None else (per_class * weights).mean()
