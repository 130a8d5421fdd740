// Which items of a history add most to a score, by what the model's signatures answer.

import { modelPath, predict } from "./calls.js";
import { signaturesOf } from "./models.js";

// Among so many first items of an item of the history alone, others are looked up.
const DEPTH = 1000;
// Histories of one item in one call.
const AT_ONCE = 20;
// By version: by item of a history, the scores of its first items; null for an item that the model doesn't know.
const answers = new Map();

/** Forget what versions have answered: another model may have come under the same number. */
export const forgetReasons = () => answers.clear();

/**
 * Say for each of some items what adds most to its score.
 * @param {{model: string, version: string}} target
 * @param {{mode: string, userId: string, history: string[], numItems: number}} asked whom the items are recommended to
 * @param {string[]} ids of the items
 * @param {number} count of reasons for each
 * @returns {Promise<Object[]|null>} for each item {ids, shares, score, others, rest}: the items of the history with
 *   what they add, the highest first; the score, what all other items of the history add, and what the history doesn't
 *   explain, null where there is none or it isn't known. Null where the model has no signature to ask.
 */
export async function reasonsFor(target, asked, ids, count, signal) {
  const signature = asked.mode === "user" ? "explain" : "recommend_for_history";
  if (!(await signaturesOf(target)).has(signature)) return null;
  return asked.mode === "user" ? ofUser(target, asked.userId, ids, count, signal)
    : ofHistory(target, asked, ids, count, signal);
}

async function ofUser(target, userId, ids, count, signal) {
  const inputs = { user_id: ids.map(() => userId), item_id: ids, k: count };
  const { outputs } = await predict(target, "explain", inputs, signal);
  return ids.map((_, place) => {
    const there = outputs.num_valid[place], shares = outputs.share[place].slice(0, there);
    const score = outputs.score[place], rest = outputs.rest[place];
    const others = there === count ? score - rest - sum(shares) : null;
    return { ids: outputs.history_item_id[place].slice(0, there), shares, score, rest, others };
  });
}

/** The score for n items is the sum of the scores for each of them alone, divided by sqrt(n). */
async function ofHistory(target, { history, numItems }, ids, count, signal) {
  const scores = await scoresAlone(target, history, numItems, signal);
  const known = history.filter((one) => scores.get(one));
  return ids.map((id) => {
    const found = known.filter((one) => scores.get(one).has(id))
      .map((one) => ({ one, share: scores.get(one).get(id) / Math.sqrt(known.length) }));
    found.sort((first, second) => second.share - first.share);
    const first = found.slice(0, count), shares = first.map(({ share }) => share);
    const score = found.length === known.length ? sum(found.map(({ share }) => share)) : null;
    const others = score === null || found.length <= count ? null : score - sum(shares);
    return { ids: first.map(({ one }) => one), shares, score, rest: null, others };
  });
}

async function scoresAlone(target, history, numItems, signal) {
  const path = modelPath(target.model, target.version);
  if (!answers.has(path)) answers.set(path, new Map());
  const kept = answers.get(path), missing = history.filter((one) => !kept.has(one));
  for (let start = 0; start < missing.length; start += AT_ONCE) {
    const part = missing.slice(start, start + AT_ONCE);
    // Models of version 0.1 want a row for each history, where later ones take one for all.
    const none = part.map(() => ""), columns = { exclude_item_id: none.map((one) => [one]), category: none };
    const inputs = { history_item_id: part.map((one) => [one]), k: Math.min(DEPTH, numItems), ...columns };
    const { outputs } = await predict(target, "recommend_for_history", inputs, signal);
    part.forEach((one, row) => {
      const pairs = outputs.item_id[row].slice(0, outputs.num_valid[row]).map((id, rank) => [id, outputs.score[row][rank]]);
      kept.set(one, outputs.known_user[row] ? new Map(pairs) : null);
    });
  }
  return kept;
}

const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);
