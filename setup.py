"""Installs the `resdet` library and command."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# No upper bounds for torch and torchvision: with bounds, pip resolves to incompatible builds.
CORE = [
    "torch>=2.6",
    "torchvision>=0.21",
    "numpy>=1.26",
    "pyyaml>=6",
    "pydantic>=2.7",  # validates configs
    "rich>=13",
    "tensorboard>=2.16",
    "safetensors>=0.4",
    "scipy>=1.11",
    # albumentations requires the headless build of OpenCV; opencv-python would install into the same folder.
    "albumentations>=2.0.8,<3",
    "opencv-python-headless>=4.11",
    "pillow>=10",  # resizes images as detectron2 does
    "pycocotools>=2.0.8",  # RLE masks, and the reference COCO evaluation
    "hotcoco>=1.3,<2",  # the same metrics, 80 times faster for boxes, 20 times for masks
]

EXPORT = ["onnx>=1.18,<2", "onnxscript>=0.7,<1", "onnxruntime>=1.22,<2"]

OPENVINO = [*EXPORT, "openvino>=2026.2"]  # before, it truncates files on a full disk without an error

SERVE = ["starlette>=0.46", "uvicorn>=0.34", "python-multipart>=0.0.20"]

EXTRAS = {
    "timm": ["timm>=1.0.9"],
    "supervision": ["supervision>=0.25"],
    "export": EXPORT,
    "openvino": OPENVINO,
    "serve": SERVE,
    "lint": ["ruff>=0.15,<0.18", "mypy>=2.4,<2.5"],
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "timm>=1.0.9",
        "hypothesis>=6",
        "supervision>=0.25",
        "jsonschema>=4.18",
        *SERVE,
        *OPENVINO,
    ],
}

setup(
    name="resdet",
    version="0.1.0",
    description="Deep Residual Learning for Image Recognition: nets, detectors, training and evaluation",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["resdet", "resdet.*"]), "resdet.configs"],
    package_dir={"resdet.configs": "configs"},
    package_data={
        "resdet": ["py.typed", "report/*.css", "report/*.js", "serve/static/*"],
        "resdet.configs": ["*.yaml"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["resdet=resdet.cli.process:main"]},
)
