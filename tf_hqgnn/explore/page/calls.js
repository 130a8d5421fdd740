// Calls in TF Serving's REST protocol: timed, kept for the list of calls, written as curl and Python.

const KEPT = 100;

/** The calls so far, the newest first: {model, version, signature, body, milliseconds, status, error}. */
export const calls = [];
const listeners = new Set();
export const onCall = (listener) => listeners.add(listener);

/** A call that failed; `isAway` says that nobody answers, so that the same may succeed later. */
export class CallError extends Error {
  constructor(message, isAway, status) {
    super(message);
    this.isAway = isAway;
    this.status = status;
  }
}

/** Ask the page's own server; returns the JSON object that it answers. */
export async function ask(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const options = body === undefined ? { signal } : { method: "POST", headers, body: JSON.stringify(body), signal };
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("The page's own server doesn't answer. Is tf-hqgnn explore still running?", true, 0);
  }
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new CallError("The answer isn't JSON that a browser reads.", false, response.status);
  }
  if (response.ok) return answer;
  const message = typeof answer.error === "string" ? answer.error : `HTTP status ${response.status}`;
  throw new CallError(message, [502, 504].includes(response.status), response.status);
}

/** The path of a model, or of one of its versions. */
export function modelPath(model, version) {
  return `/v1/models/${encodeURIComponent(model)}${version ? `/versions/${version}` : ""}`;
}

/**
 * Call a signature by columns; returns {outputs, call}.
 * @param {{model: string, version: string}} target
 */
export async function predict(target, signature, inputs, signal) {
  const body = { signature_name: signature, inputs };
  const call = { ...target, signature, body, status: 200, at: new Date() };
  const begun = performance.now();
  try {
    const answer = await ask(`${modelPath(target.model, target.version)}:predict`, body, signal);
    if (typeof answer.outputs !== "object") throw new CallError("The answer has no outputs.", false, 200);
    return { outputs: answer.outputs, call };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    Object.assign(call, { status: error.status, error: error.message });
    throw error;
  } finally {
    call.milliseconds = performance.now() - begun;
    if (!signal?.aborted) {
      calls.unshift(call);
      calls.length = Math.min(calls.length, KEPT);
      for (const listener of listeners) listener(call);
    }
  }
}

/** Where the calls can be sent from outside of the page: the server that answers, or the page's own. */
let base = location.origin;
export const setServer = (server) => {
  base = server ? `http://${server}` : location.origin;
};

// Controls and marks of direction, which a terminal would obey, are written as JSON and Python escape them.
const ODD = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const shown = (text) => text.replace(ODD, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
const url = (call) => `${base}${modelPath(call.model, call.version)}:predict`;
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function asCurl(call) {
  const body = shown(JSON.stringify(call.body));
  return `curl -H 'Content-Type: application/json' -d ${quote(body)} ${quote(url(call))}`;
}

function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${literal(name)}: ${literal(inner)}`).join(", ")}}`;
  }
  if (typeof value === "boolean") return value ? "True" : "False";
  return shown(JSON.stringify(value));
}

export function asPython(call) {
  return `import json
import urllib.request

body = ${literal(call.body)}
request = urllib.request.Request(
    ${literal(url(call))},
    json.dumps(body).encode(),
    {"Content-Type": "application/json"},
)
with urllib.request.urlopen(request, timeout=30) as response:
    print(json.load(response))
`;
}

/** How long a call took, as text. */
export function duration(milliseconds) {
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}
