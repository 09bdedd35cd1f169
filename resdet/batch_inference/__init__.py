"""Prediction on many images: results as Parquet files, in parts that a killed run need not compute again."""
