"""Pseudo labels of one image, from tensors as the golden files hold them."""

from alseg.methods.mulquery.pseudo_labels import pseudo_label_maps


def pseudo_label_map(features, cosines, regions, ids, members, **options):
    sets = [(ids.numpy(), members.numpy())]
    maps = (features[None], cosines[None], regions.numpy()[None])
    return pseudo_label_maps(*maps, sets, **options)[0]
