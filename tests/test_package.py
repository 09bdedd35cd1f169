"""Tests the package metadata, the links of the description and the built archives."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from packaging.requirements import Requirement

import resdet

REPOSITORY = Path(__file__).parents[1]
setuptools = pytest.importorskip("setuptools", "77")
SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "resdet", "configs")
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])("dist"))
"""


@pytest.fixture(scope="module")
def arguments() -> dict:
    """Returns the arguments of setup()."""
    return arguments_of(REPOSITORY / "setup.py")


def arguments_of(script: Path) -> dict:
    given: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **words: given.update(words))
        runpy.run_path(str(script))
    return given


def copy_sources(folder: Path) -> None:
    for source in SOURCES:
        path = REPOSITORY / source
        if path.is_dir():
            shutil.copytree(path, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(path, folder / source)


def build(kind: str, folder: Path) -> Path:
    """Builds the `sdist` or `wheel` of the sources in a folder."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1500000000"}
    words = [sys.executable, "-c", BUILD, kind]
    finished = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return folder / "dist" / finished.stdout.split()[-1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    copy_sources(folder)
    return folder


@pytest.fixture(scope="module")
def sdist(sources) -> Path:
    return build("sdist", sources)


@pytest.fixture(scope="module")
def wheel(sources) -> Path:
    return build("wheel", sources)


def test_sdist_is_reproducible(sdist, tmp_path):
    """Builds the sdist from a copy with other dates and permissions; `python -m build` makes the wheel from it."""
    copy_sources(tmp_path)
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        file.chmod(0o600)
        os.utime(file, (1e9, 1e9))
    assert build("sdist", tmp_path).read_bytes() == sdist.read_bytes()


def test_sdist_entries_have_fixed_owner_and_date(sdist):
    for item in tarfile.open(sdist):
        assert (item.uid, item.gid, item.uname, item.gname, item.mtime) == (0, 0, "", "", 1_500_000_000)


def test_archives_have_configs_and_license(sdist, wheel):
    configs = {path.name for path in (REPOSITORY / "configs").glob("*.yaml")}
    names = zipfile.ZipFile(wheel).namelist()
    assert configs == {Path(name).name for name in names if name.startswith("resdet/configs/")} - {"__init__.py"}
    modules = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "resdet").rglob("*.py")}
    assert modules <= set(names) and any(name.endswith("licenses/LICENSE") for name in names)
    packed = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
    assert modules | {f"configs/{name}" for name in configs} | {"LICENSE", "CHANGELOG.md"} <= packed


def test_wheel_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("METADATA"))
    content = message_from_bytes(archive.read(name))
    assert content["Version"] == resdet.__version__ and content["License-Expression"] == "MIT"
    assert content["Description-Content-Type"] == "text/markdown"
    assert "[![" not in content.get_payload() and content.get_payload().startswith("# resdet")


def links_in(text: str) -> set:
    tokens = [child for token in MarkdownIt().parse(text) for child in token.children or ()]
    return {token.attrs.get("href", token.attrs.get("src")) for token in tokens} - {None}


def test_description_without_repository_url_has_no_file_links(arguments):
    assert arguments["url"] is None
    assert all(link.startswith("https://arxiv.org/") for link in links_in(arguments["long_description"]))


def test_description_links_are_absolute_and_point_to_files(tmp_path):
    """Sets a repository URL in setup.py, which makes the links to files absolute."""
    copy_sources(tmp_path)
    script = tmp_path / "setup.py"
    text = script.read_text(encoding="utf-8")
    address = re.sub("^REPOSITORY: .*$", 'REPOSITORY = "https://example.org/resdet"', text, count=1, flags=re.MULTILINE)
    script.write_text(address, encoding="utf-8")
    arguments = arguments_of(script)
    links = links_in(arguments["long_description"])
    root = f"{arguments['url']}/(blob|raw)/v{resdet.__version__}/"
    own = {link for link in links if re.match(root, link)}
    assert len(own) > 20 and all(link.startswith("https://arxiv.org/") for link in links - own)
    names = {re.sub(root, "", link).partition("#")[0] for link in own}
    assert "" not in names and [name for name in names if not (REPOSITORY / name).exists()] == []


def test_versions_agree(arguments):
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert arguments["version"] == resdet.__version__ == citation["version"]


def test_extra_all_contains_the_user_extras(arguments):
    extras = arguments["extras_require"]
    assert set(extras["all"]) == {
        each
        for name in set(extras) - {"all", "lint", "test", "docs", "notebooks", "dev", "ray"}
        for each in extras[name]
    }
    assert set(extras["test"]) | set(extras["lint"]) | set(extras["docs"]) < set(extras["dev"])


def test_installed_versions_satisfy_the_requirements(arguments):
    for requirement in map(Requirement, arguments["install_requires"] + arguments["extras_require"]["test"]):
        assert requirement.specifier.contains(metadata.version(requirement.name), prereleases=True), requirement


def test_changelog_headings():
    """Checks the headings against keepachangelog.com 1.1.0."""
    lines = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith("#")]
    assert headings[:2] == ["# Changelog", "## [Unreleased]"]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for heading in headings[1:]:
        if heading.startswith("#### "):  # a group of entries
            continue
        version = re.fullmatch(r"## \[(Unreleased|\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d)\]?", heading)
        assert version or heading.removeprefix("### ") in kinds, heading


def test_workflow_permissions_are_read_only():
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"].values()
    assert workflow["permissions"] == {"contents": "read"} and not any("permissions" in job for job in jobs)
    uses = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert uses and all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in uses)
