"""Learning inside one run, by policy: agents whose hyperparameters change while they learn. Needs PyTorch."""
