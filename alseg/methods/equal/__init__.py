"""Self-consistency with rectangular patches (Golestaneh & Kitani, BMVC 2020, arXiv 2008.01860).

Score a patch by the entropy of an image and of its mirror image; learn from the dense labels of the
patches asked so far, and from the agreement of the two views on every pixel of their images.
"""
