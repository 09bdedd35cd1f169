// Shows /openapi.json: the operations with their parameters, bodies and responses, then the schemas.
function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function table(title, head, rows, of) {
  if (!rows.length) return "";
  const cells = (tag, row) => make("tr", {}, ...row.map((cell) => make(tag, {}, cell)));
  const region = make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: `${title} of ${of}` },
    make("table", {}, make("thead", {}, cells("th", head)), make("tbody", {}, ...rows.map((row) => cells("td", row)))));
  return make("div", {}, make("h3", {}, title), region);
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.type === "array") return `[${typeOf(schema.items)}]`;
  const range = schema.minimum === undefined ? "" : ` ${schema.minimum}–${schema.maximum}`;
  return [schema.type].flat().join(" | ") + range;
}

function operation(path, method, about) {
  const parameters = (about.parameters || []).map((each) => [each.name, typeOf(each.schema), each.description]);
  const bodies = Object.entries(about.requestBody?.content || {}).map(([type, { schema }]) => (
    [type, schema.properties ? Object.keys(schema.properties).join(", ") : "the file"]));
  const responses = Object.entries(about.responses).map(([code, each]) => (
    [code, Object.entries(each.content || {}).map(([type, { schema }]) => `${type}: ${typeOf(schema)}`).join("; "), each.description]));
  const name = `${method.toUpperCase()} ${path}`;
  return make("section", {}, make("h2", {}, name), make("p", {}, about.summary), make("p", {}, about.description || ""),
    table("Parameters", ["name", "type", "meaning"], parameters, name), table("Bodies", ["content type", "content"], bodies, name),
    table("Responses", ["status", "content", "meaning"], responses, name));
}

function schemaOf(name, { properties = {} }) {
  const rows = Object.entries(properties).map(([key, each]) => [key, typeOf(each), each.description || ""]);
  return make("section", {}, make("h2", {}, name), table("Fields", ["name", "type", "meaning"], rows, name));
}

const here = location.origin;
document.getElementById("examples").textContent = [
  `curl --data-binary @street.jpg '${here}/v1/predict?score=0.5'`,
  `curl -F image=@a.jpg -F image=@b.jpg '${here}/v1/predict?format=csv'`,
  `curl --data-binary @street.jpg '${here}/v1/predict?format=image' -o drawn.jpg`,
  "",
  "import resdet.serve",
  `result = resdet.serve.predict("${here}", "street.jpg", score=0.5)`,
].join("\n");
const { paths, components } = await (await fetch("/openapi.json")).json();
document.getElementById("operations").append(
  ...Object.entries(paths).flatMap(([path, methods]) => (
    Object.entries(methods).map(([method, about]) => operation(path, method, about)))),
  ...Object.entries(components.schemas).map(([name, schema]) => schemaOf(name, schema)));
