"""The stages of `resdet bench gpu`: one module per stage, with a function `run(stage)`."""
