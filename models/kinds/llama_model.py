"""The kind ``llama``: this project's own network, as the trainings make it."""

from __future__ import annotations

from .network_model import NetworkModel


class LlamaModel(NetworkModel):
    """A Llama backbone on rows of features; see `llama.BarTransformer`."""
