"""The HTTP edge: an OpenAI-compatible address in front of the controls. It knows the dialect and the keys, and decides nothing else."""
