"""Cut images into units: grids, superpixels, maps made by other tools."""
