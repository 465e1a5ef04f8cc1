"""Changes that prove themselves: propose patches, try them, adopt them, take them back."""

from gems.evolution.evolution import Adopted, Evolution, PatchList
from gems.evolution.trial import TrialRequest

__all__ = ["Adopted", "Evolution", "PatchList", "TrialRequest"]
