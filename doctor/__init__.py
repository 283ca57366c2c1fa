"""The doctor: why a model collapses or flatters itself, as findings in the order of what causes what."""
