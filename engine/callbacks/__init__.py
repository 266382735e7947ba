"""Callbacks that come with the engine, one subject a file; each is built on the public `Callback` alone."""

from engine.callbacks.batch_transform import BatchTransform as BatchTransform
from engine.callbacks.mixing import CutMix as CutMix
from engine.callbacks.mixing import MixUp as MixUp
from engine.callbacks.progress import Progress as Progress
from engine.callbacks.short_epochs import ShortEpochs as ShortEpochs
