"""Interoperability: models and configs to and from detectron2, prediction on Ray and Spark."""
