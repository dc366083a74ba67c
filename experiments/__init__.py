"""Presets, and the study that compares the methods over seeds."""
