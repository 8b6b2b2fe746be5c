"""Mask R-CNN with a small backbone (system 004): every lesion found by itself, and their union as a map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from groundglass.model.instances import Instance
from groundglass.networks.library import check_encoder
from groundglass.networks.region_pooling import RegionPooling, region_align
from groundglass.networks.torchvision_mend import mend

mend()

from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead  # noqa: E402
from torchvision.models.detection.image_list import ImageList  # noqa: E402
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor  # noqa: E402
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss  # noqa: E402
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead  # noqa: E402
from torchvision.ops.boxes import clip_boxes_to_image  # noqa: E402
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool  # noqa: E402

# Pixels; a smaller component lies inside one cell of the finest map (stride 4), where no box can be told from another.
SMALLEST = 4
# Sides in pixels of the anchors on the maps of stride 4, 8, 16, 32 and 64: lesions at 256 pixels, not COCO's objects.
_ANCHORS = (8, 16, 32, 64, 128)
_SHAPES = (0.5, 1.0, 2.0)
# Boxes a level before non-maximum suppression, which may run in Python, and boxes an image after it.
_BEFORE, _AFTER = {"training": 100, "testing": 100}, {"training": 100, "testing": 60}
# Boxes an image that the second stage learns from, a quarter of them on lesions; lesions an image that it answers with.
_LEARNED, _ANSWERED = 64, 40
# Of two boxes that overlap more (intersection over union), the less likely one is left out: a proposal, an answer.
_NEAR, _OVERLAP = 0.7, 0.5
# Keeps the logarithm of a probability finite.
_TINY = 1e-6


class MaskRCNN(nn.Module):
    """Mask R-CNN of He, Gkioxari, Dollar and Girshick (2017) from torchvision's parts: an encoder, a feature pyramid,
    region proposals, and for each region a score, a better box and a mask.

    Input [N, in_channels, H, W] float32. It learns by `loss` alone; what it answers to `forward` are logits
    [N, 2, H, W] whose softmax is the probability of a lesion: at each pixel the highest mask probability of all
    instances there whose score is above `confidence`. The answer carries no gradient.
    channels: of the pyramid and the mask branch (256 in the paper). Images keep their size and intensities, and the
    pooling is exact to the half pixel (Detectron2's `aligned`), since lesions are small.
    """

    def __init__(
        self,
        classes: int,
        encoder: str,
        in_channels: int = 1,
        channels: int = 64,
        confidence: float = 0.5,
    ) -> None:
        super().__init__()
        if classes != 2:
            raise ValueError(f"it finds instances of one class beside the background, not of {classes - 1}")
        check_encoder(encoder)
        import segmentation_models_pytorch as smp

        self.encoder = smp.encoders.get_encoder(encoder, in_channels=in_channels, depth=5, weights=None)
        self.pyramid = FeaturePyramidNetwork(list(self.encoder.out_channels[2:]), channels, LastLevelMaxPool())
        anchors = AnchorGenerator(tuple((side,) for side in _ANCHORS), (_SHAPES,) * len(_ANCHORS))
        self.confidence = confidence
        self.proposals = _Proposals(
            anchors,
            RPNHead(channels, len(_SHAPES)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=_BEFORE,
            post_nms_top_n=_AFTER,
            nms_thresh=_NEAR,
        )
        maps = ("0", "1", "2", "3")
        self.regions = RoIHeads(
            RegionPooling(maps, 7),
            TwoMLPHead(channels * 7**2, 256),
            FastRCNNPredictor(256, classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=_LEARNED,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            # What it answers with is chosen here, not there: torchvision's own choice needs its compiled part.
            score_thresh=confidence,
            nms_thresh=_OVERLAP,
            detections_per_img=_ANSWERED,
            mask_roi_pool=RegionPooling(maps, 14),
            mask_head=MaskRCNNHeads(channels, (channels,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(channels, channels, classes),
        )

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in_channels, H, W] -> logits [N, 2, H, W] float32, without gradient."""
        height, width = x.shape[-2:]
        lesion = torch.stack(
            [
                _pasted(boxes, masks, height, width).amax(dim=0) if len(boxes) else x.new_zeros((height, width)).float()
                for boxes, _, masks in self._detected(x)
            ]
        ).clamp(_TINY, 1 - _TINY)
        return torch.stack([1 - lesion, lesion], dim=1).log()

    @torch.no_grad()
    def instances(self, x: torch.Tensor) -> list[list[Instance]]:
        """For each image its instances with a score above `confidence`, by falling score."""
        return [
            [
                Instance(tuple(box), score, mask)
                for box, score, mask in zip(
                    boxes.tolist(), scores.tolist(), _pasted(boxes, masks, *x.shape[-2:]).cpu().numpy(), strict=True
                )
            ]
            for boxes, scores, masks in self._detected(x)
        ]

    def loss(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The sum of the paper's five losses: of the proposals' presence and boxes, of the regions' class, boxes and
        masks. x: [N, in_channels, H, W]; target: codes [N, H, W] int64.

        Regions to learn from are drawn by torch's generator. In evaluation mode the encoder's statistics stay. An
        image that is known only in part teaches nothing: a region proposed there may be right.
        """
        features = self._features(x)
        known = (target < 2).flatten(1).all(dim=1)
        if not known.any():
            return torch.stack([f.sum() for f in features.values()]).sum() * 0
        features = OrderedDict((name, f[known]) for name, f in features.items())
        truth = [instances_in(codes) for codes in target[known]]
        with _in_mode(self.proposals, training=True), _in_float32(x):
            images = _images(x[known])
            boxes, of_proposals = self.proposals(images, features, truth)
            boxes, matched, labels, better = self.regions.select_training_samples(boxes, truth)
            of_boxes = fastrcnn_loss(*self._judged(features, boxes, images), labels, better)
            on_lesions = [torch.where(found > 0)[0] for found in labels]
            boxes = [b[index] for b, index in zip(boxes, on_lesions, strict=True)]
            wanted = [
                _cropped(t["masks"], b, m[index])
                for t, b, m, index in zip(truth, boxes, matched, on_lesions, strict=True)
            ]
            answer = self._masks(features, boxes, images)
            # The mean over no region at all would not be a number.
            of_masks = (
                functional.binary_cross_entropy_with_logits(answer, torch.cat(wanted))
                if len(answer)
                else answer.sum() * 0
            )
            return torch.stack([*of_proposals.values(), *of_boxes, of_masks]).sum()

    def _features(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """The pyramid's maps of stride 4, 8, 16, 32 and 64, float32."""
        maps = self.encoder(x)[2:]
        pyramid = self.pyramid(OrderedDict((str(level), m) for level, m in enumerate(maps)))
        return OrderedDict((name, m.float()) for name, m in pyramid.items())

    def _detected(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Of each image boxes [K, 4], scores [K] by falling score, and mask probabilities [K, 28, 28] in the boxes."""
        features, images = self._features(x), _images(x)
        with _in_mode(self.proposals, training=False), _in_float32(x):
            boxes, _ = self.proposals(images, features)
            counts = [len(b) for b in boxes]
            logits, corrections = self._judged(features, boxes, images)
            corrected = self.regions.box_coder.decode(corrections, boxes).reshape(-1, 2, 4)[:, 1].split(counts)
            likely = logits.softmax(dim=1)[:, 1].split(counts)
            chosen = [
                _best(b, s, self.confidence, _OVERLAP, _ANSWERED, images.image_sizes[0])
                for b, s in zip(corrected, likely, strict=True)
            ]
            boxes, scores = [b for b, _ in chosen], [s for _, s in chosen]
            masks = self._masks(features, boxes, images).sigmoid().split([len(b) for b in boxes])
        return zip(boxes, scores, masks, strict=True)

    def _judged(
        self, features: dict[str, torch.Tensor], boxes: Sequence[torch.Tensor], images: ImageList
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Class logits and box corrections of all boxes."""
        pooled = self.regions.box_roi_pool(features, boxes, images.image_sizes)
        return self.regions.box_predictor(self.regions.box_head(pooled))

    def _masks(
        self, features: dict[str, torch.Tensor], boxes: Sequence[torch.Tensor], images: ImageList
    ) -> torch.Tensor:
        """Logits [K, 28, 28] of each box's pixels to be lesion."""
        pooled = self.regions.mask_roi_pool(features, boxes, images.image_sizes)
        return self.regions.mask_predictor(self.regions.mask_head(pooled))[:, 1]


class _Proposals(RegionProposalNetwork):
    """torchvision's, but for the choice among overlapping boxes, which refuses to run without its compiled part."""

    def filter_proposals(
        self,
        proposals: torch.Tensor,
        objectness: torch.Tensor,
        image_shapes: Sequence[tuple[int, int]],
        num_anchors_per_level: Sequence[int],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Of boxes [N, A, 4] and logits [N * A, 1], A in the order of the levels: for each image its best boxes."""
        scores = objectness.detach().reshape(len(proposals), -1)
        top = self._get_top_n_idx(scores, num_anchors_per_level)
        levels = torch.arange(len(num_anchors_per_level), device=top.device)
        levels = levels.repeat_interleave(torch.tensor(num_anchors_per_level, device=top.device))
        chosen = [
            _best(b[index], s[index].sigmoid(), 0.0, _NEAR, self.post_nms_top_n(), shape, levels[index])
            for b, s, index, shape in zip(proposals, scores, top, image_shapes, strict=True)
        ]
        return [b for b, _ in chosen], [s for _, s in chosen]


def _best(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    above: float,
    overlap: float,
    most: int,
    shape: tuple[int, int],
    groups: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes [K, 4] clipped to an image of `shape` and their scores, by falling score: those with a score above
    `above`, of two of one group that overlap too much the better one, and `most` of them."""
    boxes = clip_boxes_to_image(boxes, shape)
    real = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) > 1e-2) & (scores > above)
    boxes, scores = boxes[real], scores[real]
    # Groups lie side by side, where none can overlap another.
    aside = 0 if groups is None else (groups[real] * 2 * max(shape))[:, None]
    kept = torch.ops.torchvision.nms(boxes + aside, scores, overlap)[:most]
    return boxes[kept], scores[kept]


def instances_in(codes: torch.Tensor) -> dict[str, torch.Tensor]:
    """What torchvision learns from, of codes [H, W]: the connected components (also by their corners) of code 1 as
    boxes [G, 4] (x1, y1, x2, y2) around the pixels' edges, labels [G] and masks [G, H, W] float32. Components of less
    than `SMALLEST` pixels are left out; an image without any is a negative example."""
    parts, count = ndimage.label((codes == 1).cpu().numpy(), np.ones((3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    kept = [number for number in range(1, count + 1) if sizes[number] >= SMALLEST]
    slices = ndimage.find_objects(parts)
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in (slices[n - 1] for n in kept)]
    masks = parts[None] == np.array(kept, parts.dtype)[:, None, None]
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32, device=codes.device).reshape(-1, 4),
        "labels": torch.ones(len(kept), dtype=torch.int64, device=codes.device),
        "masks": torch.from_numpy(masks.astype(np.float32)).to(codes.device),
    }


def _cropped(masks: torch.Tensor, boxes: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """What a mask branch should answer in boxes [K, 4]: of the mask [G, H, W] that each belongs to, [K, 28, 28]."""
    return region_align(masks[which][:, None], [box[None] for box in boxes], 28)[:, 0]


def _pasted(boxes: torch.Tensor, masks: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Mask probabilities [K, M, M] in boxes [K, 4] -> on the image [K, height, width], bilinear, 0 outside."""
    side = masks.shape[-1]

    def spread(low: torch.Tensor, high: torch.Tensor, length: int) -> torch.Tensor:
        """The share of each of M cells in each pixel along an axis, [K, length, M]."""
        pixels = torch.arange(length, device=masks.device) + 0.5
        at = (pixels - low[:, None]) / (high - low)[:, None] * side - 0.5
        return (1 - (at[:, :, None] - torch.arange(side, device=masks.device)).abs()).clamp(min=0)

    with _in_float32(masks):
        rows, columns = spread(boxes[:, 1], boxes[:, 3], height), spread(boxes[:, 0], boxes[:, 2], width)
        return rows @ masks @ columns.transpose(1, 2)


def _images(x: torch.Tensor) -> ImageList:
    return ImageList(x, [(x.shape[-2], x.shape[-1])] * len(x))


def _in_float32(x: torch.Tensor) -> torch.autocast:
    """Boxes need float32: with the 8 bits of bf16, sides and overlaps at 256 pixels are wrong by whole pixels."""
    return torch.autocast(x.device.type, enabled=False)


@contextmanager
def _in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """torchvision proposes regions and computes their loss by the module's mode; here by what is asked."""
    before = module.training
    module.train(training)
    try:
        yield
    finally:
        module.train(before)
