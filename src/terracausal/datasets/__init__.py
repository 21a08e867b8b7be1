"""Real studies, fetched and verified."""

from terracausal.datasets.registry import load_dataset

__all__ = ["load_dataset"]
