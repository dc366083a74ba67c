"""Runs that are killed, starved and cut off, and have to come back bit for bit.

``python -m tests.torture --minutes 30`` (``make torture``); the short form is a test.
"""
