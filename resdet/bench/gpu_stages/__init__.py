"""The stages of `resdet bench gpu`: a module each, with a function `run(stage)`."""
