"""Other programs: models and configs of detectron2 in both directions, predictions on Ray and Spark."""
