"""Tests the files of the pages: what they contain, and that they load nothing from other servers."""

from pathlib import Path

from report import pages
from serve.browsing import STATIC, VIRTUAL, needs_browser
from serve.serving import listening

from resdet.serve.pages import FILES


@needs_browser
def test_the_documentation_lists_each_operation(serve):
    with listening(serve().app) as address:
        dom = pages.dom_of(f"{address}/docs", VIRTUAL)
    for words in ("POST /v1/predict", "GET /metrics", "json | coco | csv | image", "Retry-After", "curl --data-binary"):
        assert words in dom


def test_pages_load_nothing_from_other_servers(serve):
    """Checks that the files have no external URLs and that each reference is a path that the server returns."""
    server = serve()
    for path in FILES:
        response = server.get(path)
        text = response.body.decode()
        assert response.status == 200 and "default-src 'none'" in response.headers["content-security-policy"]
        assert "http://" not in text and "https://" not in text and "@import" not in text
    for path in ("/", "/docs"):
        requests = pages.Page(server.get(path).body.decode()).requests()
        own = [name for name in requests if name != "data:,"]
        assert own and all(server.get(name).status == 200 for name in own)


def test_all_files_are_served():
    assert {path.name for path in STATIC.iterdir()} == {Path(name).name for _, name in FILES.values()} - {"base.css"}
