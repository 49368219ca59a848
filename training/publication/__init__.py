"""From a checkpoint that is better to the space that is searched."""
