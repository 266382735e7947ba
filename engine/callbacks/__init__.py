"""Callbacks that come with the engine, one subject a file; each is built on the public `Callback` alone."""

from engine.callbacks.progress import Progress as Progress
