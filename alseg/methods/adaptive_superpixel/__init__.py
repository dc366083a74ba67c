"""Adaptive superpixels with sieving (Kim et al., ICCV 2023, arXiv 2303.16817).

Merge superpixels that look alike to the newest model, ask for the dominant class of the merged
ones, and learn only from their pixels that the model, too, finds likely to be of that class.
"""
