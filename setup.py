"""Installs the `resdet` library and command."""

import gzip
import os
import re
import tarfile
import time
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
REPOSITORY: str | None = None  # URL once it is public; until then, the description has no links to files
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "resdet/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)[
    1
]

# Requirements of training and prediction. torch and torchvision have no upper bounds, since pip would then resolve to
# incompatible builds.
CORE = [
    "torch>=2.6",
    "torchvision>=0.21",
    "numpy>=1.26",
    "pyyaml>=6",
    "pydantic>=2.7",  # validates configs
    "rich>=13",
    "safetensors>=0.4",
    "scipy>=1.11",  # class names of ILSVRC; also required by albumentations
    # albumentations requires the headless build of OpenCV; opencv-python would install into the same folder.
    "albumentations>=2.0.8,<3",
    "opencv-python-headless>=4.11",
    "pillow>=10",  # resizes images as detectron2 does
    "pycocotools>=2.0.8",  # RLE masks, and the reference COCO evaluation
    "hotcoco>=1.3,<2",  # the same metrics, 80 times faster for boxes, 20 times for masks
]

TENSORBOARD = ["tensorboard>=2.16"]
EXPORT = ["onnx>=1.18,<2", "onnxscript>=0.7,<1", "onnxruntime>=1.22,<2"]

# For users. `resdet report` needs no extra: it draws with packages in CORE.
EXTRAS = {
    "timm": ["timm>=1.0.9"],
    "supervision": ["supervision>=0.25"],
    "pandas": ["pandas>=2.1"],
    "parquet": ["pyarrow>=15"],
    "tensorboard": TENSORBOARD,
    "remote": ["fsspec[http]>=2024.6"],  # for s3:// and gs://, users add s3fs or gcsfs
    "serve": [
        "starlette>=0.46",
        "uvicorn>=0.34",
        "uvloop>=0.19; sys_platform != 'win32' and platform_python_implementation == 'CPython'",
        "python-multipart>=0.0.20",
    ],
    "export": EXPORT,
    "loggers": [*TENSORBOARD, "wandb>=0.19", "mlflow>=2.14"],
    "openvino": [*EXPORT, "openvino>=2026.2"],  # earlier versions silently truncate files on a full disk
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["ray"] = [*EXTRAS["parquet"], "ray[data]>=2.51"]  # not in `all`: clusters bring their own version

# For developers.
EXTRAS["lint"] = ["ruff>=0.15,<0.18", "mypy>=2.4,<2.5"]
EXTRAS["test"] = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6",
    "jsonschema>=4.18",
    *EXTRAS["timm"],
    *EXTRAS["supervision"],
    *EXTRAS["tensorboard"],
    *EXTRAS["remote"],
    *EXTRAS["serve"],
    *EXTRAS["parquet"],
    *EXTRAS["openvino"],
    "webdataset>=0.2.100",
]
EXTRAS["notebooks"] = ["nbclient>=0.10", "ipykernel>=6"]
EXTRAS["docs"] = ["sphinx>=8", "furo>=2025.7", "myst-parser>=4"]
EXTRAS["dev"] = [
    *EXTRAS["test"],
    *EXTRAS["lint"],
    *EXTRAS["docs"],
    *EXTRAS["notebooks"],
    "build>=1.2",
    "twine>=6",
    "pre-commit>=4",
]

CLASSIFIERS = [
    "Development Status :: 4 - Beta",
    "Environment :: Console",
    "Environment :: GPU :: NVIDIA CUDA",
    "Intended Audience :: Developers",
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX :: Linux",  # others once the tests have run there
    "Programming Language :: Python :: 3",
    *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Topic :: Scientific/Engineering :: Image Recognition",
    "Typing :: Typed",
]


def readme() -> str:
    """Returns README.md with absolute links, since a package index has none of the other files."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    if REPOSITORY is None:
        return re.sub(r"!?\[([^]]*)\]\((?!https:)[^)]*\)", r"\1", text)
    text = re.sub(r"(!\[[^]]*\]\()(?!https:)", rf"\g<1>{REPOSITORY}/raw/v{VERSION}/", text)
    text = re.sub(r"(\]\()(?=#)", r"\g<1>README.md", text)
    return re.sub(r"(\]\()(?!https:)", rf"\g<1>{REPOSITORY}/blob/v{VERSION}/", text)


def links() -> dict[str, str]:
    if REPOSITORY is None:
        return {}
    return {
        "Documentation": f"{REPOSITORY}/tree/v{VERSION}/docs",
        "Changes": f"{REPOSITORY}/blob/v{VERSION}/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    }


class ReproducibleSdist(sdist):
    """Builds a reproducible archive: without owners, and dated SOURCE_DATE_EPOCH."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        date = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def normalized(item: tarfile.TarInfo) -> tarfile.TarInfo:
            item.uid = item.gid = 0
            item.uname = item.gname = ""
            item.mtime = date
            item.mode = 0o755 if item.isdir() or item.mode & 0o100 else 0o644
            return item

        path = f"{base_name}.tar.gz"
        with gzip.GzipFile(path, "wb", mtime=date) as file, tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(base_dir, filter=normalized)  # sorts the names in each folder
        return path


setup(
    name="resdet",
    version=VERSION,
    description="Deep Residual Learning for Image Recognition: nets, detectors, training and evaluation",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="the resdet authors",
    license_expression="MIT",
    license_files=["LICENSE"],
    url=REPOSITORY,
    project_urls={"Paper": "https://arxiv.org/abs/1512.03385"} | links(),
    keywords=[
        *("resnet", "image-classification", "object-detection", "instance-segmentation", "faster-rcnn", "mask-rcnn"),
        *("cascade-rcnn", "coco", "onnx", "pytorch"),
    ],
    classifiers=CLASSIFIERS,
    python_requires=">=3.10",
    packages=[*find_packages(include=["resdet", "resdet.*"]), "resdet.configs"],
    package_dir={"resdet.configs": "configs"},
    package_data={
        "resdet": ["py.typed", "report/*.js", "results/*.css", "serve/static/*"],
        "resdet.configs": ["*.yaml"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["resdet=resdet.cli.process:main"]},
    cmdclass={"sdist": ReproducibleSdist},
)
