"""Tests the page in a browser: displayed results, models, errors, keyboard and downloads."""

from pathlib import Path

from report import pages
from report.keyboard import REACHABLE, needs_keyboard, tab
from serve.browsing import LOADED, PHOTO, PREDICTED, VIRTUAL, Masked, needs_browser, probed, uploaded, visit
from serve.serving import StandIn, listening, picture

import resdet
from resdet.serve.limits import Limits
from resdet.serve.models import Loaded
from resdet.tasks import tasks


@needs_browser
def test_slider_and_class_list_filter_without_a_request(serve):
    masked = Masked()
    found = visit(
        serve(boxes=masked.loaded()).app,
        PREDICTED
        + """
report.first = captions();
change("score", "0.75", "input");
report.above = captions();
change("score", "0.05", "input");
report.all = captions();
document.querySelector("#class-list input").click();
report.filtered = captions();
element("none").click();
report.none = captions();
element("all").click();
report.again = captions();
report.classes = [...document.querySelectorAll("#class-list label")].map((each) => each.textContent.trim());
report.label = document.querySelector("canvas").getAttribute("aria-label");
report.fits = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
report.unnamed = [...document.querySelectorAll("input, select, button, canvas")].filter((each) => (
  !each.labels?.length && !each.textContent.trim() && !each.ariaLabel)).map((each) => each.outerHTML);
""",
    )
    words = {key: found[key][0].partition(";")[0] for key in ("first", "above", "all", "filtered", "none", "again")}
    assert words == {
        "first": "photo.png: 2 disc, 1 square",
        "above": "photo.png: 1 disc, 1 square",
        "all": "photo.png: 2 disc, 1 square, 1 bar",
        "filtered": "photo.png: 1 square, 1 bar",
        "none": "photo.png: no detections",
        "again": "photo.png: 2 disc, 1 square, 1 bar",
    }
    assert "net " in found["first"][0]
    assert found["classes"] == ["disc", "square", "bar"] and found["label"] == words["again"]
    assert found["fits"]
    assert found["unnamed"] == []
    assert len(masked.batches) == 2  # the first is the warmup


@needs_browser
def test_an_image_above_the_limit_of_the_server_shows_a_message(serve):
    masked = Masked()
    server = serve(Limits(max_bytes=100), boxes=masked.loaded())
    script = f'{LOADED} choose({PHOTO}); await until(() => captions().some((text) => text.includes("MiB")));'
    found = visit(server.app, f"{script} report.captions = captions();")
    assert "MiB and the server takes 0.0: choose a smaller one." in found["captions"][0]
    assert len(masked.batches) == 1  # the warmup


@needs_keyboard
def test_the_page_is_operable_by_keyboard(serve, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(picture(160, 240))
    caption = 'document.querySelector("figcaption")?.textContent'
    server = serve(boxes=Masked().loaded(), others=StandIn().loaded())
    with listening(server.app) as address, tab(address) as page:
        page.until('document.getElementById("model").options.length')
        assert [stop["name"] for stop in page.stops()][:2] == ["API", "Models"]
        page.send("Page.setInterceptFileChooserDialog", enabled=True)
        for key in ("Enter", "Space"):
            page.go_to("Drop images")
            page.press(key)
            chooser = page.event("Page.fileChooserOpened")
            page.send("DOM.setFileInputFiles", files=[str(photo)], backendNodeId=chooser["backendNodeId"])
        page.until(
            '[...document.querySelectorAll("figcaption")].filter((each) => / ms/.test(each.textContent)).length > 1'
        )
        stops = page.stops()
        order = [stop["order"] for stop in stops]
        assert order == sorted(order) and len(order) == page.value(REACHABLE) == 2 + 3 + 2 + 3 + 3 + 2 * 2
        page.go_to("disc")
        page.press("Space")
        assert page.value(caption).startswith("photo.png: 1 square;")
        # Makes the page rebuild the list of classes with the next image.
        page.value('document.getElementById("class-list").dataset.key = ""')
        page.send("DOM.setFileInputFiles", files=[str(photo)], backendNodeId=chooser["backendNodeId"])
        page.until('document.getElementById("class-list").dataset.key')
        assert page.focus()["name"] == "disc"
        page.go_to("Remove photo.png")
        page.press("Enter")
        page.go_to("Score from")
        page.press("End")
        assert page.value(caption).startswith("photo.png: no detections")
        page.go_to("Model", "select")
        page.press("ArrowDown")
        assert page.value('document.getElementById("model").value') == "others"
        page.until(f'/ ms/.test({caption}) && document.querySelectorAll("#class-list input").length === 3')
        page.go_to("Remove photo.png")
        page.press("Enter")
        assert page.focus()["name"] == "Remove photo.png"  # of the next image
        page.press("Space")
        assert page.focus()["name"].startswith("Drop images")
        page.send("Page.navigate", url=f"{address}/docs")
        page.until('document.querySelectorAll("#operations section").length')
        order = [stop["order"] for stop in page.stops()]
        assert order == sorted(order) and len(order) == page.value(REACHABLE) > 10


@needs_browser
def test_models_are_switched_and_errors_shown(serve):
    """Checks that a classifier shows a table of classes and a rejected upload the server's error message."""
    model = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3")
    model.classes = ["dog", "cat", "bird"]
    classes = Loaded(model.eval(), model, tasks[model.task].predict_options)
    found = visit(
        serve(boxes=StandIn().loaded(), classes=classes).app,
        PREDICTED
        + f"""
change("model", "classes", "change");
await until(() => document.querySelectorAll("meter").length === 3);
report.rows = [...document.querySelectorAll("figure td:first-child")].map((each) => each.textContent);
report.slider = element("score-field").offsetHeight;
choose({uploaded("broken.png", b"no image")});
await until(() => document.querySelector(".error"));
report.error = document.querySelector(".error").textContent;
report.status = element("status").getAttribute("aria-live");
""",
    )
    assert sorted(found["rows"]) == ["bird", "cat", "dog"] and found["slider"] == 0
    assert "is not an image" in found["error"] and found["status"] == "polite"


@needs_browser
def test_errors_and_times_stay_with_their_results(serve):
    """Checks that moving the slider keeps an error, and that choosing another model clears it and the shown times."""
    script = f"""{PREDICTED}
choose({uploaded("broken.png", b"no image")});
await until(() => document.querySelector(".error"));
change("score", "0.6", "input");
report.kept = document.querySelector(".error")?.textContent;
change("model", "second", "change");
report.cleared = captions();
"""
    found = visit(serve(first=StandIn().loaded(), second=StandIn().loaded()).app, script)
    assert "is not an image" in found["kept"]
    assert found["cleared"][0] == "photo.png: not predicted yet" and found["cleared"][1].endswith("not predicted yet")


@needs_browser
def test_a_server_that_does_not_respond_shows_a_message(serve):
    script = f"""{LOADED}
window.fetch = () => Promise.reject(new TypeError("Failed to fetch"));
choose({PHOTO});
await until(() => document.querySelector(".error"));
report.captions = captions();
"""
    found = visit(serve().app, script)
    assert found["captions"][0].startswith("photo.png: The server does not answer: check the network")


@needs_browser
def test_downloads(serve):
    """Checks that the COCO and CSV files contain the displayed detections."""
    found = visit(
        serve(boxes=Masked().loaded()).app,
        PREDICTED
        + """
const [blobs, names] = [[], []];
URL.createObjectURL = (blob) => { blobs.push(blob); return "#"; };
// A download in progress would stop virtual time.
HTMLAnchorElement.prototype.click = function () { names.push(this.download); };
element("coco").click();
element("csv").click();
[report.coco, report.csv] = [JSON.parse(await blobs[0].text()), await blobs[1].text()];
report.names = names;
""",
    )
    assert [Path(name).suffix for name in found["names"]] == [".json", ".csv"]
    coco = found["coco"]
    assert coco["images"] == [{"id": 1, "file_name": "photo.png", "width": 240, "height": 160}]
    assert [each["category_id"] for each in coco["annotations"]] == [1, 2, 1]
    assert coco["annotations"][0]["bbox"] == [40, 30, 100, 80]
    assert coco["annotations"][0]["area"] == 40 * 93  # pixels of the mask
    assert coco["categories"] == [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    lines = found["csv"].splitlines()
    assert lines[0] == "image,name,label,category_id,score,x1,y1,x2,y2" and len(lines) == 4
    assert lines[1].startswith("photo.png,disc,0,1,0.89") and lines[1].endswith(",40,30,140,110")


@needs_browser
def test_the_page_requests_the_token(serve):
    """Also checks that an image chosen earlier waits for the token, and that a link without the token is hidden."""
    script = """
await until(() => !element("token-field").hidden);
report.asked = element("status").textContent;
const shown = [...document.querySelectorAll("nav a")].filter((each) => each.offsetWidth);
report.links = shown.map((each) => each.textContent);
choose(PHOTO);
await until(() => captions().length);
report.before = captions();
change("token", "secret", "change");
await until(() => element("model").options.length);
report.models = element("model").options.length;
await until(() => captions().some((text) => text.includes(" ms")));
""".replace("PHOTO", PHOTO)
    with listening(probed(serve(token="secret").app, script)) as address:
        found = pages.report_of(f"{address}/probe", VIRTUAL)
    assert "Authorization: Bearer" in found["asked"] and found["models"] == 1
    assert "undefined" not in found["before"][0] and found["links"] == ["API"]
