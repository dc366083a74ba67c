"""Full supervision: every pixel of the pool is labelled. The upper bound of a comparison."""
