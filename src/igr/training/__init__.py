"""Training: configs, the loop, checkpoints and run folders."""
