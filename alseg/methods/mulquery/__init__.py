"""Multi-class label query: regions answered with the set of classes in them.

Hwang, Lee, Kim, Oh, Ok, Kwak, "Active Learning for Semantic Segmentation with Multi-class Label
Query", NeurIPS 2023, arXiv 2309.09319.
"""
