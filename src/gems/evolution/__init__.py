"""Changes that prove themselves: propose patches, try them, adopt them, take them back."""

from gems.evolution.evolution import Adopted, Comparison, Evolution, PatchList
from gems.evolution.trial import TrialRequest

__all__ = ["Adopted", "Comparison", "Evolution", "PatchList", "TrialRequest"]
