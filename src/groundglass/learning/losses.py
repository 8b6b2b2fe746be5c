"""Losses by name. Each takes logits [N, K, H, W], target [N, H, W] int64, class weights [K] or None and `possible`
[R, K] bool, and gives a scalar; the recipe adds them up with weights.

The target holds codes of the label set: a channel, or from K on a set of channels of which the pixel is one, as
`possible` says. Such a partly known pixel is learned as far as it is known: it pulls towards its set, not towards any
one class of it. One that may be everything teaches nothing and leaves every mean. A batch that is known throughout
goes the way of torch's and MONAI's own losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from groundglass.labels import LabelSet
from groundglass.recipes.settings import LossTerm
from groundglass.registry import LOSSES, load

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Keeps a batch in which nothing has a weight from dividing by zero.
_TINY = torch.finfo(torch.float32).tiny


def build(terms: Sequence[LossTerm], labels: LabelSet, class_pixels: Mapping[str, int]) -> Loss:
    """The recipe's weighted sum, computed in float32 whatever the precision of the network.

    class_pixels: pixels of each class in the training part, from which `balanced` weights follow.
    """
    parts = [(term.weight, load(LOSSES[term.name]), class_weights(term, labels, class_pixels)) for term in terms]
    possible = possible_channels(labels)

    def total(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits, table = logits.float(), possible.to(logits.device)
        values = [
            weight * function(logits, target, None if weights is None else weights.to(logits.device), table)
            for weight, function, weights in parts
        ]
        return torch.stack(values).sum()

    return total


def own(network: nn.Module, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `network.loss(x, target)` computes, and the logits [N, K, H, W] that the network answers in evaluation mode.

    The recipe's loss `own`. It is of no logits, so that it is not among the terms that `build` adds up; the logits
    are asked for beside it, since an epoch is scored by them.
    """
    loss: torch.Tensor = network.loss(x, target)  # type: ignore[operator]
    training = network.training
    try:
        with torch.no_grad():
            return loss, network.eval()(x)
    finally:
        network.train(training)


def possible_channels(labels: LabelSet) -> torch.Tensor:
    """The channels that a pixel of each code may be, [R, K] bool."""
    return torch.tensor([[channel in code for channel in range(len(labels.classes))] for code in labels.codes])


def class_weights(term: LossTerm, labels: LabelSet, class_pixels: Mapping[str, int]) -> torch.Tensor | None:
    """Weights [K] float32 in channel order. `balanced`: mean pixel count / class pixel count, the weight scikit-learn
    calls balanced, over the pixels that are known; a class without any gets 0. Classes not named weigh 1."""
    if term.class_weights is None:
        return None
    if isinstance(term.class_weights, dict):
        return torch.tensor([term.class_weights.get(name, 1.0) for name in labels.classes])
    counts = torch.tensor([float(class_pixels.get(name, 0)) for name in labels.classes])
    return torch.where(counts > 0, counts.mean() / counts.clamp(min=1), torch.zeros(()))


def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, possible: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy over pixels; with class weights, the weighted mean.

    Of a partly known pixel: -log of the summed probability of all that it may be, weighted by their mean weight.
    """
    if _is_known(target, possible):
        return functional.cross_entropy(logits, target, weight=weights)
    shares = _code_weights(weights, possible)[target]
    return -(shares * _log_likelihood(logits, target, possible)).sum() / shares.sum().clamp(min=_TINY)


def dice(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, possible: torch.Tensor
) -> torch.Tensor:
    """1 - soft Dice over the whole batch, mean over classes (MONAI's DiceLoss, batch=True).

    A partly known pixel is left out of the sums of the classes that it may be, and is a negative of all others.
    """
    from monai.losses import DiceLoss

    if _is_known(target, possible):
        return DiceLoss(to_onehot_y=True, softmax=True, batch=True, weight=weights)(logits, target[:, None])
    return DiceLoss(batch=True, weight=weights)(*_known_memberships(logits, target, possible))


def foreground_dice(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, possible: torch.Tensor
) -> torch.Tensor:
    """1 - soft Dice over the whole batch, mean over all classes but the first, the background (MONAI's DiceLoss,
    include_background=False): of two classes, what is called the binary Dice loss. Partly known pixels count as in
    `dice`."""
    from monai.losses import DiceLoss

    known = _is_known(target, possible)
    loss = DiceLoss(to_onehot_y=known, softmax=known, batch=True, include_background=False, reduction="none")
    per_class = loss(*((logits, target[:, None]) if known else _known_memberships(logits, target, possible))).flatten()
    return per_class.mean() if weights is None else (per_class * weights[1:]).mean()


def focal(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, possible: torch.Tensor
) -> torch.Tensor:
    """Focal loss with gamma 2 over the softmax (Lin et al. 2017; MONAI's FocalLoss, whose mean is over classes too).

    Of a partly known pixel: of the summed probability of all that it may be, weighted by their mean weight.
    """
    from monai.losses import FocalLoss

    if _is_known(target, possible):
        return FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0, weight=weights)(logits, target[:, None])
    log_p = _log_likelihood(logits, target, possible)
    each = -_code_weights(weights, possible)[target] * (1 - log_p.exp()) ** 2 * log_p
    return each.sum() / (_informative(possible)[target].sum() * logits.shape[1]).clamp(min=1)


def tversky(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, possible: torch.Tensor
) -> torch.Tensor:
    """Tversky loss with alpha .3 (false positives) and beta .7 (false negatives) over the whole batch, mean over
    classes (Salehi et al. 2017; MONAI's TverskyLoss). Partly known pixels count as in `dice`."""
    from monai.losses import TverskyLoss

    known = _is_known(target, possible)
    loss = TverskyLoss(to_onehot_y=known, softmax=known, alpha=0.3, beta=0.7, batch=True, reduction="none")
    pair = (logits, target[:, None]) if known else _known_memberships(logits, target, possible)
    per_class = loss(*pair).flatten()
    return per_class.mean() if weights is None else (per_class * weights).mean()


def _is_known(target: torch.Tensor, possible: torch.Tensor) -> bool:
    """Whether every pixel of the target has one class."""
    return not bool((target >= possible.shape[1]).any())


def _informative(possible: torch.Tensor) -> torch.Tensor:
    """Whether a code excludes any class at all, [R] bool."""
    return ~possible.all(dim=1)


def _code_weights(weights: torch.Tensor | None, possible: torch.Tensor) -> torch.Tensor:
    """What a pixel of each code weighs, [R] float32: the mean weight of all that it may be, 0 where it may be all."""
    if weights is None:
        return _informative(possible).float()
    return _informative(possible) * (possible * weights).sum(dim=1) / possible.sum(dim=1)


def _log_likelihood(logits: torch.Tensor, target: torch.Tensor, possible: torch.Tensor) -> torch.Tensor:
    """log of the summed probability of all that each pixel may be, [N, H, W]."""
    impossible = ~possible[target].movedim(-1, 1)
    return functional.log_softmax(logits, dim=1).masked_fill(impossible, -torch.inf).logsumexp(dim=1)


def _known_memberships(
    logits: torch.Tensor, target: torch.Tensor, possible: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability and truth of each class, both [N, K, H, W] float32 and 0 where its membership is unknown."""
    single = possible.sum(dim=1, keepdim=True) == 1
    truth, unknown = possible & single, possible & ~single
    p = torch.softmax(logits, dim=1) * ~unknown[target].movedim(-1, 1)
    return p, truth[target].movedim(-1, 1).float()
