"""Functions for the tests of a package of your own: each tries one plug-in against its contract, on generated bars.

`flagbt new` writes a package whose tests call them.
"""

from .feature_contract import check_features
from .model_contract import check_model
from .strategy_contract import check_strategy

__all__ = ["check_features", "check_model", "check_strategy"]
