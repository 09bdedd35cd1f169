"""Batch prediction into Parquet files, written in parts so that an interrupted run can resume."""
