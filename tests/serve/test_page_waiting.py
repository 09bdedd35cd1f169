"""Tests in a browser that the page waits for models, and predicts each image only once."""

from serve.browsing import LOADED, PHOTO, needs_browser, visit
from serve.serving import StandIn


@needs_browser
def test_the_page_waits_for_models_that_are_loading(serve):
    """Also checks that the selected model stays selected."""
    script = """
await until(() => element("model").options.length);
const [answer, options] = [window.fetch, () => [...element("model").options].map((each) => each.textContent)];
let asked = 0;
window.fetch = async (...request) => {
  const response = await answer(...request);
  const content = await response.clone().json();
  if (!content.models || ++asked > 2) return response;
  content.models[0] = { ...content.models[0], ready: false, task: null, options: [] };
  return new Response(JSON.stringify(content), { status: 200, headers: response.headers });
};
change("model", "second", "change");
change("token", "", "change");
await until(() => asked);
await until(() => options()[0].includes("loading"));
report.before = [options(), element("model").value];
await until(() => !options()[0].includes("loading"));
report.after = [options(), element("model").value, asked];
"""
    found = visit(serve(first=StandIn().loaded(), second=StandIn().loaded()).app, script)
    assert found["before"] == [["first (loading)", "second (detection)"], "second"]
    assert found["after"] == [["first (detection)", "second (detection)"], "second", 3]


@needs_browser
def test_images_wait_for_a_model_that_is_loading(serve):
    script = f"""{LOADED}
const answer = window.fetch;
let ready = false, asked = 0;
window.fetch = async (path, ...options) => {{
  const response = await answer(path, ...options);
  if (path.startsWith("/v1/predict")) asked += 1;
  if (path !== "/v1/models") return response;
  const content = await response.json();
  Object.assign(content.models[0], ready ? {{}} : {{ ready, task: null }});
  return new Response(JSON.stringify(content), {{ status: 200, headers: response.headers }});
}};
change("token", "", "change");
await until(() => element("model").textContent.includes("loading"));
choose({PHOTO});
await until(() => element("status").textContent);
report.before = [element("status").textContent, asked];
ready = true;
await until(() => captions()[0].includes(" ms"));
report.after = [element("status").textContent, asked];
"""
    found = visit(serve(boxes=StandIn().loaded()).app, script)
    assert found == {"before": ["boxes is not ready.", 0], "after": ["1 image predicted.", 1]}


HELD = """
const answer = window.fetch;
let asked = 0, release;
const released = new Promise((done) => { release = done; });
window.fetch = async (path, ...options) => {
  if (path.startsWith("/v1/predict")) { asked += 1; await released; }
  return answer(path, ...options);
};
const predicted = () => captions().filter((text) => text.includes(" ms")).length;
"""


@needs_browser
def test_removed_images_are_not_predicted(serve):
    script = f"""{LOADED} {HELD}
choose({", ".join([PHOTO] * 9)});
await until(() => asked === 4 && element("status").textContent.startsWith("Predicting"));
element("clear").click();
report.status = element("status").textContent;
choose({PHOTO});
release();
await until(predicted);
report.asked = asked;
"""
    found = visit(serve(boxes=StandIn().loaded()).app, script)
    assert found == {"status": "", "asked": 4 + 1}


@needs_browser
def test_images_that_wait_are_predicted_once_after_the_model_changes(serve):
    script = f"""{LOADED} {HELD}
choose({", ".join([PHOTO] * 6)});
await until(() => asked === 4);
change("model", "second", "change");
release();
await until(() => predicted() === 6);
report.asked = asked;
"""
    second = StandIn()
    found = visit(serve(first=StandIn().loaded(), second=second.loaded()).app, script)
    assert found["asked"] == 4 + 6 and sum(map(len, second.batches)) == 1 + 6  # one is the warmup


@needs_browser
def test_results_arrive_after_the_models_were_requested_again(serve):
    script = f"""{LOADED} {HELD}
choose({PHOTO});
await until(() => asked);
element("model").replaceChildren();
change("token", "", "change");
{LOADED}
release();
await until(predicted);
report.captions = captions();
"""
    found = visit(serve(boxes=StandIn().loaded()).app, script)
    assert found["captions"][0].startswith("photo.png: 1 disc")
