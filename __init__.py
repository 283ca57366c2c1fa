"""flagbt: find out honestly whether a fine-tuned model trades, why not, and what it is worth."""

__version__ = "0.1.0"
