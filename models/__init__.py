"""Models: checkpoints, their logits and probabilities, and the signals made of them."""
