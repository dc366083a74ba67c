"""mulquery: losses on class sets, and pseudo labels of one image."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from alseg.core.images import VOID
from alseg.methods.mulquery.losses import stage_one_loss
from alseg.methods.mulquery.pseudo_labels import pseudo_label_maps
from benchmarks.harness import Comparison, compare, table

CLASSES = 20
TAU = 0.1
WEIGHTS = {"single_weight": 16.0, "merged_weight": 8.0, "prototype_weight": 1.0}


def main(quick: bool) -> None:
    rows = [*losses(quick), *pseudo_labels(quick)]
    print(table(rows))


def wavy_regions(height: int, width: int, side: int) -> torch.Tensor:
    """Regions of about `side` x `side` pixels whose borders are no straight lines."""
    y, x = np.mgrid[:height, :width]
    line = np.clip((y + side / 4 * np.sin(x / side)) // side, 0, height // side - 1)
    column = np.clip((x + side / 4 * np.sin(y / side)) // side, 0, width // side - 1)
    return torch.from_numpy((line * (width // side) + column).astype(np.int64))


def class_sets(regions: int, generator: torch.Generator) -> torch.Tensor:
    """One to three classes per region, (regions, CLASSES), bool."""
    size = torch.randint(1, 4, (regions, 1), generator=generator)
    rank = torch.rand(regions, CLASSES, generator=generator).argsort(dim=1)
    return rank < size


def losses(quick: bool) -> list[Comparison]:
    images, side, asked = (2, 64, 4) if quick else (4, 512, 60)
    generator = torch.Generator().manual_seed(0)
    one = wavy_regions(side, side, 16 if quick else 32)
    num_regions = int(one.max()) + 1
    regions = one.expand(images, -1, -1)
    ids = torch.stack(
        [torch.randperm(num_regions, generator=generator)[:asked] for _ in range(images)]
    )
    selected = torch.stack([torch.isin(one, row) for row in ids])
    targets = torch.stack([class_sets(num_regions, generator) for _ in range(images)])
    cosines = 2 * torch.rand(images, CLASSES, side, side, generator=generator) - 1

    def ours():
        s = cosines.clone().requires_grad_()
        total = stage_one_loss(s, regions, selected, targets, tau=TAU, **WEIGHTS).total
        total.backward()
        return total.detach(), s.grad

    def add_up(s, terms, counts):
        weights = WEIGHTS.values()
        total = sum(w * t / n for w, t, n in zip(weights, terms, counts, strict=True))
        total.backward()
        return total.detach(), s.grad

    def over_regions():
        s = cosines.clone().requires_grad_()
        terms, counts = [s.new_zeros(()) for _ in range(3)], [1, 1, 1]
        for image in range(images):
            p = (s[image][:, selected[image]] / TAU).softmax(dim=0)
            region = regions[image][selected[image]]
            for asked_id in ids[image]:
                q = p[:, region == asked_id][targets[image, asked_id]]
                kind = 0 if len(q) == 1 else 1
                terms[kind] = terms[kind] - (q.sum(dim=0) + 1e-8).log().sum()
                counts[kind] += q.shape[1]
                if kind:
                    terms[2] = terms[2] - (q.max(dim=1).values + 1e-8).log().sum()
                    counts[2] += len(q)
        return add_up(s, terms, counts)

    def over_images():
        s = cosines.clone().requires_grad_()
        terms, counts = [s.new_zeros(()) for _ in range(3)], [1, 1, 1]
        for image in range(images):
            p = (s[image][:, selected[image]].T / TAU).softmax(dim=1)
            region = regions[image][selected[image]]
            members = targets[image][region]
            several = members.sum(dim=1) > 1
            inside = -((p * members).sum(dim=1) + 1e-8).log()
            for kind, where in enumerate((~several, several)):
                terms[kind] = terms[kind] + inside[where].sum()
                counts[kind] += int(where.sum())
            index = region[several][:, None].expand(-1, CLASSES)
            best = p.new_zeros(num_regions, CLASSES)
            best = best.scatter_reduce(0, index, (p * members)[several], "amax")
            best = best[best > 0]
            terms[2] = terms[2] - (best + 1e-8).log().sum()
            counts[2] += len(best)
        return add_up(s, terms, counts)

    def close(expected, got):
        for a, b in zip(expected, got, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5 * float(a.abs().max()))
        return "within 1e-5 of the largest"

    task = f"stage 1 loss and gradient, {images}x{CLASSES}x{side}x{side}, {asked} regions per image"
    return [
        compare(task, "loop over images and regions", over_regions, ours, close, repeats=3),
        compare(task, "loop over images, dense tables", over_images, ours, close, repeats=3),
    ]


def same_labels(expected: torch.Tensor, got: list[torch.Tensor]) -> str:
    """Rounding decides a few of the comparisons with a threshold."""
    share = float((expected != got[0]).double().mean())
    assert share <= 1e-4, f"{share:.2%} of the pixels differ"
    return f"{share:.4%} of pixels differ (allowed 0.01%)"


def pseudo_labels(quick: bool) -> list[Comparison]:
    height, width, dim, asked = (64, 128, 8, 6) if quick else (512, 1024, 256, 60)
    generator = torch.Generator().manual_seed(0)
    regions = wavy_regions(height, width, 16 if quick else 32)
    num_regions = int(regions.max()) + 1
    ids = torch.randperm(num_regions, generator=generator)[:asked]
    members = class_sets(asked, generator)
    features = F.normalize(torch.rand(dim, height // 4, width // 4, generator=generator), dim=0)
    cosines = 2 * torch.rand(CLASSES, height, width, generator=generator) - 1

    def direct():
        full = F.interpolate(features[None], size=(height, width), mode="bilinear")[0]
        q = cosines.softmax(dim=0)
        labels = torch.full((height, width), VOID, dtype=torch.uint8)
        within_regions = torch.full_like(labels, VOID)
        by_id = ids.argsort()
        for region, row in zip(ids[by_id], members[by_id], strict=True):
            mask, classes = regions == region, row.nonzero().flatten()
            pixels = full[:, mask]
            prototypes = pixels[:, q[classes][:, mask].argmax(dim=1)].T
            similarity, winner = (prototypes @ pixels).max(dim=0)
            within_regions[mask] = classes[winner].to(torch.uint8)
            limits = torch.ones(len(classes))
            for c in range(len(classes)):
                if (winner == c).any():
                    limits[c] = similarity[winner == c].median()
            dilated = F.max_pool2d(mask[None].float(), 3, stride=1, padding=1)[0] > 0
            around = torch.isin(regions, regions[dilated].unique())
            similarity = prototypes @ full[:, around]
            passes = (similarity > limits[:, None]).any(dim=0)
            said = classes[similarity.argmax(dim=0)].to(torch.uint8)
            labels[around] = torch.where(passes, said, labels[around])
        return torch.where(within_regions != VOID, within_regions, labels)

    ours = partial(
        pseudo_label_maps,
        *(features[None], cosines[None], regions.numpy()[None], [(ids.numpy(), members.numpy())]),
        proto_temperature=1.0,
        expand=True,
        threshold="median",
        strict=False,
    )
    task = f"pseudo labels of {height}x{width} pixels, {asked} of {num_regions} regions asked"
    name = f"upsampled {dim}-d features, masks per region"
    return [compare(task, name, direct, ours, same_labels, repeats=3)]
