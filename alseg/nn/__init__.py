"""Networks: the segmentation factory and the parts several methods share."""
