"""Hostile input: files and words as nobody should give them, and what becomes of them."""
