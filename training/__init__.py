"""Training: recipes, samples, objectives and the trainer that makes a checkpoint."""
