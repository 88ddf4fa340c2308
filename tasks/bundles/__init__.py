"""Model bundles on disk and what they are made from: networks, checkpoints, the official release."""
