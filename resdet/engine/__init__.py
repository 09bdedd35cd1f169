"""One trainer for every task: it sees losses, batches and evaluations, and no model in particular."""
