// Which models and versions answer right now, and what they can be asked.

import { ask, CallError, modelPath } from "./calls.js";

const LOOK_SECONDS = 4;
const LOOK_AGAIN_SECONDS = 1;

/** By name: {versions: ["3", "2"], reason: why there is none}. */
export const models = new Map();
const signatures = new Map();

/** The versions of a model that answer, the newest first. */
export const versionsOf = (model) => models.get(model)?.versions ?? [];

/** The names of the signatures of a version; empty as long as they aren't known. */
export async function signaturesOf(target) {
  const path = modelPath(target.model, target.version);
  if (!signatures.has(path)) {
    const answer = await ask(`${path}/metadata`);
    signatures.set(path, new Set(Object.keys(answer.metadata?.signature_def?.signature_def ?? {})));
  }
  return signatures.get(path);
}

/** Look once at all models; throws CallError if nobody answers. */
async function look(names) {
  const found = await Promise.all(names.map(async (name) => {
    try {
      const answer = await ask(modelPath(name));
      const known = answer.model_version_status ?? [];
      const there = known.filter((one) => one.state === "AVAILABLE").map((one) => String(one.version));
      there.sort((one, other) => (BigInt(one) < BigInt(other) ? 1 : -1));
      const reason = known.map((one) => one.status?.error_message).find(Boolean) ?? "no version of it is loaded";
      return [name, { versions: there, reason: there.length ? "" : reason }];
    } catch (error) {
      if (!(error instanceof CallError) || error.isAway) throw error;
      return [name, { versions: [], reason: error.message }];
    }
  }));
  const before = JSON.stringify([...models]);
  for (const [name, state] of found) models.set(name, state);
  return JSON.stringify([...models]) !== before;
}

let wake = () => {};

/**
 * Look again and again.
 * @param {() => string[]} names of the models in the export directory
 * @param {(error: CallError|null, changed: boolean) => void} tell after each look
 */
export async function watch(names, tell) {
  for (;;) {
    let error = null, changed = false;
    try {
      changed = await look(names());
    } catch (failure) {
      if (!(failure instanceof CallError)) throw failure;
      error = failure;
      // Another model may answer under the same version when the server is back.
      signatures.clear();
    }
    await tell(error, changed);
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, 1000 * (error ? LOOK_AGAIN_SECONDS : LOOK_SECONDS));
    });
    // A page that nobody sees asks nothing.
    while (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
  }
}

/** Look now, since a call has failed. */
export const lookNow = () => wake();
