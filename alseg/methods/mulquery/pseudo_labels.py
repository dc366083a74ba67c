"""From class sets of regions to a label per pixel (stage 2).

Equation numbers are those of mulquery (arXiv 2309.09319), section 6. Prototypes compete only
inside their own region and its neighbours, so features are read only there.

What follows from regions and answers alone is made on the host, in arrays; what a network says
stays on its device, in tensors. The host has to know one thing of the latter: where the prototypes
are. Neither `prototypes` before that nor `prototype_labels` after it waits for the device.

Functions that return rows per prototype keep one order: region ascending, then class ascending.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.scores import most_probable
from alseg.active.transfer import on_host
from alseg.core.images import VOID
from alseg.methods.mulquery.groups import first_argmax
from alseg.methods.mulquery.similarities import FeatureMap, Similarities, there
from alseg.nn.precision import at_least_float32
from alseg.regions.geometry import pixels_in


class Asked(NamedTuple):
    """Pixels of the asked regions that have a class, region by region, raster order inside."""

    ids: NDArray[np.int64]  #: Region ids, ascending, (K,).
    members: NDArray[np.bool_]  #: Their class sets, (K, C), at least one class each.
    pixels: NDArray[np.int64]  #: Raster indices ``y * W + x``, (n,).
    sizes: list[int]  #: Pixels of each region, K numbers that sum to n.


class Prototypes(NamedTuple):
    """Prototypical pixels (S2), one row per (region, class)."""

    region: NDArray[np.int64]  #: Row of the region in `Asked`, (P,).
    label: NDArray[np.int64]  #: Class, (P,).
    pixel: Tensor  #: Raster index ``y * W + x``, (P,), int64.


class WithinLabels(NamedTuple):
    """What prototypes say of their own region (S3), one row per pixel of `Asked`."""

    winner: Tensor  #: Row of the most similar prototype in `Prototypes`, (n,), int64.
    similarity: Tensor  #: Its inner product with the pixel's feature, (n,).


def pseudo_label_maps(
    features: Tensor,
    cosines: Tensor,
    regions: NDArray[np.integer[Any]],
    sets: Sequence[tuple[NDArray[np.integer[Any]], NDArray[np.bool_]]],
    *,
    proto_temperature: float,
    expand: bool,
    threshold: str,
    strict: bool,
    canvas: tuple[int, int] | None = None,
    align_corners: bool = False,
) -> list[Tensor]:
    """Labels of the asked regions and, with `expand`, of their neighbours (S1-S7).

    A device is waited for once: for where the prototypes of all images are.

    Args:
        features: ``f``, (B, D, h, w), see `prototype_labels`.
        cosines: ``s``, (B, C, H, W).
        regions: Region id of each pixel, -1 = in no region, (B, H, W).
        sets: Of each image, its asked regions, (K,), in any order, and their class sets, (K, C).
            Regions that are not in the map are left out, those without a class get no label.
        proto_temperature: Temperature of the softmax that picks prototypes; the reference uses 1
            here and 0.1 in the losses.
        expand: See `prototype_labels`.
        threshold: Likewise.
        strict: Likewise.
        canvas: Likewise.
        align_corners: Likewise.

    Returns:
        Of each image (H, W), uint8, `VOID` where there is no label.
    """
    # pixels in no region get an id of their own, which nobody asked about
    wide = regions.astype(np.int64)
    maps = [np.where(one < 0, one.max(initial=-1) + 1, one) for one in wide]
    asked = [asked_pixels(one, *known) for one, known in zip(maps, sets, strict=True)]
    found = [prototypes(*pair, proto_temperature) for pair in zip(cosines, asked, strict=True)]
    pixels = {str(item): one.pixel for item, one in enumerate(found)}
    known = on_host({"prototypes": pixels})["prototypes"].values()
    return [
        prototype_labels(
            *(features[item], maps[item], asked[item], found[item]._replace(pixel=pixel)),
            expand=expand,
            threshold=threshold,
            strict=strict,
            canvas=canvas,
            align_corners=align_corners,
        ).masked_fill_(there(wide[item] < 0, features), VOID)
        for item, pixel in enumerate(known)
    ]


def prototype_labels(
    features: Tensor,
    regions: NDArray[np.integer[Any]],
    asked: Asked,
    found: Prototypes,
    *,
    expand: bool,
    threshold: str,
    strict: bool,
    canvas: tuple[int, int] | None = None,
    align_corners: bool = False,
) -> Tensor:
    """Labels of the asked regions and, with `expand`, of their neighbours (S3-S7).

    Args:
        features: ``f``, (D, h, w): on the pixel grid (h = H, w = W), or coarser, to be read as
            bilinear interpolation would.
        regions: Region id of each pixel, (H, W), >= 0.
        asked: Asked regions.
        found: Their prototypes, whose pixels are on the CPU.
        expand: Also label neighbouring regions where they are similar enough.
        threshold: ``median`` or ``min`` of the similarities inside the region (S4).
        strict: In neighbours, only prototypes above their own threshold compete, and the most
            similar wins; else, as the reference does, the most similar of a region's prototypes
            wins if any of them passes, and later regions overwrite earlier ones.
        canvas: Height and width in pixels of what the features cover, if the image is only its
            upper left part; (H, W) if None.
        align_corners: How the features lie on the canvas, see `FeatureMap`.

    Returns:
        (H, W), uint8, `VOID` where there is no label.
    """
    height, width = regions.shape
    labels = torch.full((height * width,), VOID, dtype=torch.uint8, device=features.device)
    if not len(asked.ids):
        return labels.view(height, width)
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        field = FeatureMap(features, (height, width), canvas, align_corners)
        similar = Similarities(field, found.pixel)
        within = within_region_labels(similar, asked, found)
        said = there(found.label.astype(np.uint8), features)
        if expand:
            limits = thresholds(within, len(found.label), threshold)
            near = neighbours(regions, asked.ids, int(regions.max()) + 1)
            near[:, asked.ids] = False  # these get their own labels below
            _expand(labels, similar, regions, near, found, said, limits, strict)
        labels[there(asked.pixels, labels)] = said[within.winner]
    return labels.view(height, width)


def naive_labels(cosines: Tensor, where: Tensor | None = None) -> Tensor:
    """The most similar class of each pixel, whatever the answers said (N1, N2).

    Args:
        cosines: ``s``, (C, H, W).
        where: Pixels to label, (H, W), bool, e.g. those of asked regions (N2) or those above some
            confidence; all if None (N1).

    Returns:
        (H, W), uint8, `VOID` elsewhere.
    """
    labels = most_probable(cosines, dim=0)
    return labels if where is None else labels.masked_fill(~where, VOID)


def asked_pixels(
    regions: NDArray[np.integer[Any]], ids: NDArray[np.integer[Any]], members: NDArray[np.bool_]
) -> Asked:
    """Collect the pixels of the asked regions; regions without class or pixel are left out.

    Args:
        regions: Region id of each pixel, (H, W).
        ids: Asked regions, (K,), in any order.
        members: Their class sets, (K, C).

    Returns:
        Ids and sets in ascending order of the id, and the pixels.
    """
    order = np.argsort(ids)
    order = order[members[order].any(axis=1)]
    known, sets = ids[order].astype(np.int64), members[order]
    pixels, offsets = pixels_in(regions, known)
    sizes = np.diff(offsets)
    seen = sizes > 0
    return Asked(known[seen], sets[seen], pixels, sizes[seen].tolist())


def prototypes(cosines: Tensor, asked: Asked, temperature: float) -> Prototypes:
    """Where each class of each asked region is most probable (S1, S2).

    Args:
        cosines: ``s``, (C, H, W).
        asked: Asked regions.
        temperature: Cosines are divided by it before the softmax.

    Returns:
        One row per (region, class of its set); on ties the first pixel in raster order.
    """
    num_classes = len(cosines)
    place = np.repeat(np.arange(len(asked.ids)), asked.sizes)
    row, label = np.nonzero(asked.members[place])
    group = place[row] * num_classes + label
    region, own = np.nonzero(asked.members)
    with torch.no_grad(), torch.autocast(cosines.device.type, enabled=False):
        pixels, rows = there(asked.pixels, cosines), there(row, cosines)
        scores = at_least_float32(cosines.flatten(1)[:, pixels].T)
        probability = (scores / temperature).softmax(dim=1)
        best = first_argmax(
            probability[rows, there(label, cosines)], there(group, cosines), asked.members.size
        )
        chosen = rows[best[there(region * num_classes + own, cosines)]]
        return Prototypes(region, own, pixels[chosen])


def within_region_labels(similar: Similarities, asked: Asked, found: Prototypes) -> WithinLabels:
    """The most similar prototype of each pixel's own region (S3); ties go to the lowest class.

    Args:
        similar: Similarities to the prototypes.
        asked: Asked regions.
        found: Their prototypes.

    Returns:
        One row per pixel of `asked`.
    """
    winners, similarities = [], []
    pixels = there(asked.pixels, similar.prototypes).split(asked.sizes)
    for own, rivals in zip(pixels, _rivals(found), strict=True):
        similarity, winner = similar.at(rivals, own).max(dim=0)
        winners.append(there(rivals, winner)[winner])
        similarities.append(similarity)
    return WithinLabels(torch.cat(winners), torch.cat(similarities))


def thresholds(within: WithinLabels, num_prototypes: int, statistic: str) -> Tensor:
    """How similar a pixel outside the region must be to a prototype (S4).

    Args:
        within: Most similar prototypes inside the regions.
        num_prototypes: P.
        statistic: ``median`` (the lower one of an even number) or ``min`` of the similarities of
            the pixels a prototype has won.

    Returns:
        (P,); 1 for prototypes that have won no pixel.

    Raises:
        ValueError: The statistic is unknown.
    """
    if statistic not in ("median", "min"):
        raise ValueError(f"unknown statistic {statistic!r}; known: median, min")
    by_value = within.similarity.argsort()
    order = by_value[within.winner[by_value].argsort(stable=True)]
    # bincount would wait for the highest row
    sizes = order.new_zeros(num_prototypes).scatter_add_(0, within.winner, torch.ones_like(order))
    place = sizes.cumsum(0) - sizes
    if statistic == "median":
        place = place + (sizes - 1).clamp(min=0) // 2
    limits = within.similarity[order][place.clamp(max=len(order) - 1)]
    return torch.where(sizes > 0, limits, 1.0)


def neighbours(
    regions: NDArray[np.integer[Any]], ids: NDArray[np.int64], num_regions: int
) -> NDArray[np.bool_]:
    """Which regions touch, at a side or a corner (S5).

    Args:
        regions: Region id of each pixel, (H, W), ``0 <= id < num_regions``.
        ids: Regions whose neighbours are wanted, (K,), each once.
        num_regions: R.

    Returns:
        (K, R); a region is its own neighbour.
    """
    row = np.full(num_regions, -1)
    row[ids] = np.arange(len(ids))
    rows = row[regions]
    near = np.zeros((len(ids), num_regions), dtype=bool)
    near[row[ids], ids] = True
    inner, before, after = slice(None), slice(None, -1), slice(1, None)
    for one, other in (
        ((inner, before), (inner, after)),
        ((before, inner), (after, inner)),
        ((before, before), (after, after)),
        ((before, after), (after, before)),
    ):
        for centre, neighbour in ((one, other), (other, one)):
            meets = (rows[centre] >= 0) & (regions[centre] != regions[neighbour])
            near[rows[centre][meets], regions[neighbour][meets]] = True
    return near


def _expand(
    labels: Tensor,
    similar: Similarities,
    regions: NDArray[np.integer[Any]],
    near: NDArray[np.bool_],
    found: Prototypes,
    said: Tensor,
    limits: Tensor,
    strict: bool,
) -> None:
    """Label pixels of neighbouring regions (S6) in `labels`, (H * W,), in place."""
    targets = np.flatnonzero(near.any(axis=0))
    order, offsets = pixels_in(regions, targets)
    lists = there(order, labels).split(np.diff(offsets).tolist())
    best = limits.new_full(labels.shape, -torch.inf)
    for rivals, row in zip(_rivals(found), near[:, targets], strict=True):
        around = [lists[place] for place in np.flatnonzero(row)]
        if not around:
            continue
        pixels, own = torch.cat(around), there(rivals, labels)
        similarity = similar.at(rivals, pixels)
        passes = similarity > limits[own, None]
        if strict:
            highest, winner = similarity.masked_fill(~passes, -torch.inf).max(dim=0)
            known = best[pixels]
            won = highest > known
            best[pixels] = torch.where(won, highest, known)
        else:
            winner, won = similarity.argmax(dim=0), passes.any(dim=0)
        labels[pixels] = torch.where(won, said[own[winner]], labels[pixels])


def _rivals(found: Prototypes) -> list[NDArray[np.int64]]:
    """Rows of the prototypes of each region."""
    ends = np.cumsum(np.bincount(found.region)).tolist()
    return [np.arange(start, end) for start, end in pairwise([0, *ends])]
