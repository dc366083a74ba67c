"""MADBAL: maturity-aware active learning with pixels of superpixels of clusters.

Yazdani, Li & Monga, BMVC 2023, arXiv 2308.14904.
"""
