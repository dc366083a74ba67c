"""Image-level active learning before a semi-supervised GAN (Desai & Ghose, WACV 2022).

A scene classifier chooses the images that get masks (arXiv 2110.07782); S4GAN (Mittal, Tatarchenko
& Brox, arXiv 1908.05724) then learns from them and from the images without masks.
"""
