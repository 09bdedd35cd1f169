"""Tests prediction in Spark against prediction in one process."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import resdet
from resdet.batch_inference import run
from resdet.batch_inference.program import Program
from resdet.interop import spark as adapter
from resdet.weights import save_weights


@pytest.fixture
def session():
    sql = pytest.importorskip("pyspark.sql")
    spark = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    yield spark
    spark.stop()


def test_rows_equal_one_process(session, tmp_path):
    weights, folder = str(tmp_path / "net.safetensors"), tmp_path / "photos"
    model = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3")
    save_weights.save(model, weights, "safetensors")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(256, size=(36, 40, 3), dtype=np.uint8))
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff damaged")
    run.predict_to_parquet(Program([weights], top=2), [str(folder)], tmp_path / "alone")
    frame = session.read.format("binaryFile").load(str(folder))
    adapter.map_images(frame, weights, top=2).write.parquet(str(tmp_path / "spark"))
    written = {row["image"].rpartition("/")[2]: row for row in pq.read_table(tmp_path / "spark").to_pylist()}
    for expected in pq.read_table(tmp_path / "alone").to_pylist():
        row = written.pop(expected["image"].rpartition("/")[2])
        assert row["names"] == expected["names"] and bool(row["error"]) == bool(expected["error"])
        assert row["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert not written


def test_numbers_name_images_and_missing_images_are_rows_with_an_error(tmp_path):
    """Calls the mapper as Spark's workers do, which needs no Spark."""
    weights = str(tmp_path / "net.safetensors")
    model = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3")
    save_weights.save(model, weights, "safetensors")
    png = cv2.imencode(".png", np.zeros((36, 40, 3), np.uint8))[1].tobytes()
    batch = pa.record_batch({"id": pa.array([7, 8]), "content": pa.array([png, None], pa.binary())})
    rows = pa.Table.from_batches(adapter.Mapper(Program((weights,)))([batch])).to_pylist()
    assert [row["image"] for row in rows] == ["7", "8"]
    assert len(rows[0]["scores"]) == 3 and rows[0]["error"] is None and rows[1]["error"].startswith("8 ")
