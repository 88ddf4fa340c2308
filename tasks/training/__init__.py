"""The paper's training method; the only home of torch, which the `train` extra brings."""
