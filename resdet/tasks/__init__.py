"""What the trainer trains: each task brings a model, its data and its evaluation together."""
