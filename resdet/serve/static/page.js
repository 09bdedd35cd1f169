import { colorOf, css, draw, fit } from "./draw.js";
import { save, toCoco, toCsv } from "./download.js";
import { getModels, predict, setToken } from "./request.js";
import { encoded, sample } from "./video.js";

const LOWEST = 0.05; // score that is asked for, so that the slider needs no new request
const PARALLEL = 4; // requests
const RETRY = 1000; // milliseconds until the next question for models that are loading
const element = (id) => document.getElementById(id);
const entries = []; // { name, file, image, figure, canvas, caption, table, remove, result, times, failure, shown }
const hidden = new Set(); // classes
let models = [];
let timer; // of that question
let waiting = [], running = 0;

const model = () => models.find((each) => each.name === element("model").value);
const score = () => Number(element("score").value);
const say = (text) => { element("status").textContent = text; };

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function loadModels() {
  try {
    models = await getModels();
  } catch (failure) {
    return complain(failure);
  }
  element("token-field").hidden = !element("token").value;
  say("");
  showModels();
}

// Asks for the models again until all are loaded.
function showModels() {
  const chosen = element("model").value;
  element("model").replaceChildren(...models.map(({ name, task }) => make("option", { value: name }, `${name} (${task || "loading"})`)));
  if (models.some(({ name }) => name === chosen)) element("model").value = chosen;
  showModel();
  clearTimeout(timer);
  if (!models.every(({ ready }) => ready)) timer = setTimeout(refresh, RETRY);
  for (let slot = 0; slot < PARALLEL; slot++) next();
}

async function refresh() {
  models = await getModels().catch(() => models);
  showModels();
}

function showModel() {
  element("score-field").hidden = !model()?.options.includes("score");
}

function complain(failure) {
  if (failure.status === 401) {
    element("token-field").hidden = false;
    element("models").hidden = true; // a link sends no token
  }
  say(failure.message);
}

// A figure for each file.
function add(files) {
  for (const file of files) (file.type.startsWith("video/") ? addVideo : addImage)(file);
}

function addEntry(name, file) {
  const canvas = make("canvas", { width: 1, height: 1 });
  canvas.setAttribute("role", "img");
  const caption = make("figcaption", {}, name);
  const picture = make("button", { type: "button" }, "Download picture");
  const remove = make("button", { type: "button" }, "Remove");
  picture.setAttribute("aria-label", `Download picture of ${name}`);
  remove.setAttribute("aria-label", `Remove ${name}`);
  const table = make("div");
  const figure = make("figure", {}, canvas, caption, table, make("div", { className: "actions" }, picture, remove));
  const entry = { name, file, figure, canvas, caption, table, remove, result: null, shown: [] };
  picture.addEventListener("click", () => canvas.toBlob((blob) => save(blob, `${name.replace(/\.\w+$/, "")}_drawn.png`)));
  remove.addEventListener("click", () => removeEntry(entry));
  entries.push(entry);
  element("results").append(figure);
  return entry;
}

// The focus goes to the next figure, or to the files.
function removeEntry(entry) {
  const at = entries.indexOf(entry);
  entry.figure.remove();
  entries.splice(at, 1);
  waiting = waiting.filter((each) => each !== entry);
  if (!entries.length) say("");
  showClasses();
  (entries[Math.min(at, entries.length - 1)]?.remove || element("files")).focus();
}

async function addImage(file) {
  const entry = addEntry(file.name || "pasted image", file);
  try {
    entry.image = await createImageBitmap(file);
    fit(entry.canvas, entry.image);
    show(entry);
  } catch {
    entry.unseen = "The browser cannot show this format. ";
  }
  enqueue(entry);
}

function addVideo(file) {
  const entry = addEntry(file.name || "video", file);
  const video = make("video", { controls: true, muted: true, playsInline: true, src: URL.createObjectURL(file) });
  video.setAttribute("aria-label", `Video ${entry.name}`);
  video.addEventListener("error", () => fail(entry, new Error("The browser cannot play this video.")));
  entry.figure.prepend(video);
  entry.again = async (frame, seconds) => {
    frame = frame || entry.image;
    if (!frame || !model()?.ready) return;
    await predictInto(entry, await encoded(frame), frame);
    if (seconds !== undefined) entry.caption.prepend(`${seconds.toFixed(2)} s: `);
  };
  sample(video, entry.again);
}

// At most PARALLEL requests at a time; none before the models are known, which may need a token, and the chosen one ready.
function enqueue(entry) {
  if (!waiting.includes(entry)) waiting.push(entry);
  next();
}

async function next() {
  if (running >= PARALLEL || !waiting.length || !models.length) return;
  if (!model().ready) return say(`${model().name} is not ready.`);
  running += 1;
  const entry = waiting.shift();
  say(`Predicting, ${waiting.length + running} left.`);
  await predictInto(entry, entry.file, entry.image);
  running -= 1;
  const done = entries.filter(({ result }) => result).length;
  if (!running && !waiting.length && done) say(`${done} ${done === 1 ? "image" : "images"} predicted.`);
  next();
}

async function predictInto(entry, blob, image) {
  const asked = model();
  const { result, times, failure } = await predict(blob, asked, LOWEST).catch((failure) => ({ failure }));
  if (asked.name !== model().name) return; // asked again for the other model
  if (failure) return fail(entry, failure);
  Object.assign(entry, { result, times, image, failure: null });
  if (image) fit(entry.canvas, image);
  show(entry);
  showClasses();
}

function fail(entry, failure) {
  entry.failure = failure.message;
  show(entry);
  complain(failure);
}

// Draws what is above the score and of a shown class.
function show(entry) {
  const detections = entry.result?.detections || [];
  entry.shown = detections.filter((each) => each.score >= score() && !hidden.has(each.name));
  if (entry.image) {
    const scale = Math.max(1, entry.canvas.width / (entry.canvas.clientWidth || entry.canvas.width));
    draw(entry.canvas, entry.image, entry.shown, entry.result?.skeleton, scale);
  }
  const found = entry.failure || summary(entry);
  entry.canvas.setAttribute("aria-label", `${entry.name}: ${found}`);
  const text = entry.failure ? make("span", { className: "error" }, found) : `${found}${latency(entry.times)}`;
  entry.caption.replaceChildren(`${entry.name}: ${entry.unseen || ""}`, text);
  entry.table.replaceChildren(...(entry.result?.names ? [classTable(entry.result)] : []));
}

function summary({ result, shown }) {
  if (!result) return "not predicted yet";
  if (result.names) return `${result.names[0]} ${result.scores[0].toFixed(3)}`;
  const counts = new Map();
  for (const { name } of shown) counts.set(name, (counts.get(name) || 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${name}`).join(", ") || "no detections";
}

function latency(times) {
  if (!times) return "";
  const stages = ["decode", "queue", "net", "encode"].filter((stage) => stage in times);
  return `; ${times.total.toFixed(0)} ms (${stages.map((stage) => `${stage} ${times[stage].toFixed(0)}`).join(", ")})`;
}

function classTable({ names, scores }) {
  const rows = names.map((name, k) => make("tr", {}, make("td", {}, name),
    make("td", {}, make("meter", { min: 0, max: 1, value: scores[k], ariaLabel: `score of ${name}` })),
    make("td", { className: "number" }, scores[k].toFixed(3))));
  return make("table", {}, make("tbody", {}, ...rows));
}

function showAll() {
  entries.forEach(show);
}

// A check box for each class that occurs.
function showClasses() {
  const counts = new Map();
  for (const { result } of entries) {
    for (const { name, label } of result?.detections || []) {
      counts.set(name, { label, count: (counts.get(name)?.count || 0) + 1 });
    }
  }
  const sorted = [...counts].sort((a, b) => b[1].count - a[1].count);
  const key = JSON.stringify(sorted.map(([name]) => name));
  element("classes").hidden = !sorted.length;
  element("downloads").hidden = !entries.length;
  element("coco").hidden = !entries.some(({ result }) => result?.detections);
  if (element("class-list").dataset.key === key) return;
  element("class-list").dataset.key = key;
  const focused = document.activeElement.closest("#class-list input")?.value;
  element("class-list").replaceChildren(...sorted.map(([name, { label }]) => classBox(name, label)));
  [...document.querySelectorAll("#class-list input")].find(({ value }) => value === focused)?.focus();
}

function classBox(name, label) {
  const box = make("input", { type: "checkbox", value: name, checked: !hidden.has(name) });
  box.addEventListener("change", () => {
    hidden[box.checked ? "delete" : "add"](name);
    showAll();
  });
  const wrapped = make("label", {}, box, ` ${name}`);
  wrapped.style.borderColor = css(colorOf(label));
  return wrapped;
}

function checkAll(checked) {
  for (const box of document.querySelectorAll("#class-list input")) {
    if (box.checked !== checked) box.click();
  }
}

function predictAgain() {
  showModel();
  for (const entry of entries) {
    Object.assign(entry, { result: null, times: null, failure: null });
    if (entry.again) entry.again();
    else enqueue(entry);
  }
  showAll();
}

element("controls").addEventListener("submit", (event) => event.preventDefault());
element("model").addEventListener("change", predictAgain);
element("token").addEventListener("change", () => { setToken(element("token").value); loadModels(); });
element("score").addEventListener("input", () => { element("score-value").value = score().toFixed(2); showAll(); });
element("files").addEventListener("change", () => { add(element("files").files); element("files").value = ""; });
element("all").addEventListener("click", () => checkAll(true));
element("none").addEventListener("click", () => checkAll(false));
element("clear").addEventListener("click", () => [...entries].forEach(removeEntry));
element("coco").addEventListener("click", () => {
  const known = entries.filter(({ result }) => result?.detections);
  save(new Blob([JSON.stringify(toCoco(known))], { type: "application/json" }), "detections.json");
});
element("csv").addEventListener("click", () => {
  save(new Blob([toCsv(entries.filter(({ result }) => result))], { type: "text/csv" }), "results.csv");
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
window.addEventListener("resize", showAll);
loadModels();
