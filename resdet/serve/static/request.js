// Requests to the server; a full queue is asked again.
const RETRIES = 20;
const MIB = 2 ** 20;
let token = "";
let most = Infinity; // bytes of a body

export function setToken(text) {
  token = text;
}

async function send(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers: { ...headers, ...options.headers } }).catch(() => {
    throw new Error("The server does not answer: check the network, and that resdet serve is running.");
  });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  const failure = new Error(error);
  failure.status = response.status;
  failure.retryAfter = Number(response.headers.get("Retry-After") || 0);
  throw failure;
}

export async function getModels() {
  const { models, max_bytes } = await (await send("/v1/models")).json();
  most = max_bytes;
  return models;
}

// The result of one image, and milliseconds by stage.
export async function predict(blob, model, score) {
  // Here, since browsers show no answer to a body that the server does not read to its end.
  if (blob.size > most) {
    throw new Error(`The image has ${(blob.size / MIB).toFixed(1)} MiB and the server takes ${(most / MIB).toFixed(1)}: choose a smaller one.`);
  }
  const query = new URLSearchParams({ model: model.name });
  if (model.options.includes("score")) query.set("score", score);
  for (let left = RETRIES; ; left--) {
    const start = performance.now();
    try {
      const response = await send(`/v1/predict?${query}`, {
        method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" },
      });
      const { results } = await response.json();
      const times = timesOf(response.headers.get("Server-Timing") || "");
      return { result: results[0], times: { ...times, total: performance.now() - start } };
    } catch (failure) {
      if (failure.status !== 503 || left === 0) throw failure;
      await new Promise((done) => setTimeout(done, 1000 * (failure.retryAfter || 1)));
    }
  }
}

export function timesOf(header) {
  return Object.fromEntries([...header.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, value]) => [name, Number(value)]));
}
