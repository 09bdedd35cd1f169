"""One trainer for all tasks: it handles losses, batches and evaluations, and is independent of the model."""
