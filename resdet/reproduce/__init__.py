"""The rows and figures of the paper as data: trainings, evaluations and reported metrics (`resdet reproduce`)."""
