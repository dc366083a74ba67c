"""The one gate for files of pixels: labels as they were saved, images in the bands that are wanted.

`read_labels` (`alseg.data.reading.labels`) gives a mask's numbers unchanged or refuses the file in
one sentence; every consumer of labels goes through it. `read_image` (`alseg.data.reading.images`)
gives an image as 8-bit bands, scaled from the range that was asked for.

- ``read_labels(path) -> LabelFile``: ``values`` (H, W), unsigned integers exactly as stored, or
  (H, W, 3), uint8, for colours; ``kind`` ``"index"``, ``"palette"`` or ``"rgb"``; ``palette``
  (N, 3), uint8, or None; ``nodata``, the value the file declares to be no data, or None.
- ``read_image(path, reading=AS_RGB) -> NDArray[uint8]``: (H, W, C).

The decoders are in `alseg.core.rasters`, the rules for labels in `alseg.core.labelfiles`, so that
rooms below this one (`alseg.labels`, `alseg.regions`) call the same functions from there.
"""
