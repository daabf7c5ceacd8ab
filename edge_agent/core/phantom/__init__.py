"""Synthetic pictures with known truth: an ultrasound sector and an endoscope's view.

Pure scene maths: the same look, seed and phase give the same picture on every machine. Nothing here
reads a clock or keeps a frame; `sources.phantom` paces and faults. These are drawings for tests,
drills and demo models, never anatomy.
"""

from __future__ import annotations
