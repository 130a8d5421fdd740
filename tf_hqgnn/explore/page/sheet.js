// One item, over the page: why it is recommended, what is similar, and what can be done with it.

import { CallError, predict } from "./calls.js";
import { fill, h, icon } from "./dom.js";
import { format } from "./list.js";
import { signaturesOf } from "./models.js";
import { about, nameElement, need, tile } from "./names.js";
import { reasonsFor } from "./reasons.js";

const REASONS = 8;
const SIMILAR = 8;

/**
 * Make the sheet.
 * @param {HTMLDialogElement} dialog
 * @param {Object} page {asked, exclude, took}
 */
export function makeSheet(dialog, page) {
  const before = [];
  let shown = null, asking = null;
  dialog.addEventListener("close", () => { asking?.abort(); before.length = 0; shown = null; });
  // A click beside the sheet closes it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  async function open(id, target) {
    asking?.abort();
    asking = new AbortController();
    shown = { id, target };
    const why = h("div"), similar = h("div");
    const { category, popularity_rank: rank, title } = about(id);
    const act = (label, run) => h("button.secondary", { type: "button", onclick: () => { dialog.close(); run(); } }, label);
    fill(dialog, h("div.sheet-body", {},
      h("div.sheet-top", {},
        before.length ? h("button.link", { type: "button", onclick: () => { const last = before.pop(); open(last.id, last.target); } }, "← Back")
          : h("span.muted.small", {}, "Item"),
        h("button.icon-button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
      h("div.sheet-title", {}, tile(id), h("div", {}, h("h2", {}, nameElement(id)),
        h("p.muted", {}, [category && h("bdi", {}, category), title && ["id ", h("bdi", {}, id)], rank && `No. ${rank} in popularity`]
          .filter(Boolean).flatMap((one, index) => (index ? [" · ", one].flat() : [one].flat()))))),
      h("div.buttons", {},
        act("Exclude", () => page.exclude(id)),
        act("Add to a history", () => page.took(id))),
      why, similar));
    if (!dialog.open) dialog.showModal();
    const { signal } = asking;
    await Promise.all([showWhy(why, id, target, signal), showSimilar(similar, id, target, signal)].map((one) =>
      one.catch((error) => {
        if (error.name !== "AbortError" && !(error instanceof CallError)) throw error;
        if (!signal.aborted) fill(similar, h("p.note", {}, error.message));
      })));
  }

  /** Items with numbers and bars; then sums, which have no bar: they would dwarf the others. */
  function rows(ids, numbers, totals = []) {
    const most = Math.max(...numbers.map(Math.abs));
    return h("ul.numbers", {}, ids.map((id, place) => {
      const bar = h("span.bar", { "aria-hidden": "true" }, h("i"));
      bar.firstChild.style.width = `${Math.round((100 * Math.abs(numbers[place])) / most)}%`;
      bar.classList.toggle("negative", numbers[place] < 0);
      const name = h("button.name", { type: "button", onclick: () => go(id) }, nameElement(id));
      return h("li", {}, h("div", {}, name, bar), h("span.number", {}, format(numbers[place])));
    }), totals.map(([text, number]) =>
      h("li.total", {}, h("span.muted", {}, text), h("span.number", {}, format(number)))));
  }

  function go(id) {
    before.push(shown);
    open(id, shown.target);
  }

  async function showWhy(place, id, target, signal) {
    const found = await reasonsFor(target, page.asked(), [id], REASONS, signal);
    const { ids = [], shares, score, others, rest } = found?.[0] ?? {};
    if (!ids.length) return;
    await need(ids);
    if (signal.aborted) return;
    const totals = [["All other items of the history", others], ["What the history doesn't explain", rest]];
    fill(place, h("h3", {}, "Where its score comes from"),
      h("p.muted.small", {}, score === null ? "These items of the history add most to its score:"
        : `The score is ${format(score)}. ${others === null ? "The" : "These"} items of the history add ${others === null ? "this" : "most"} to it:`),
      rows(ids, shares, totals.filter(([, number]) => number !== null)));
  }

  async function showSimilar(place, id, target, signal) {
    if (!(await signaturesOf(target)).has("similar_items")) return;
    const { outputs } = await predict(target, "similar_items", { item_id: [id], k: SIMILAR }, signal);
    const ids = outputs.item_id[0].slice(0, outputs.num_valid[0]);
    await need(ids);
    if (signal.aborted) return;
    fill(place, h("h3", {}, "Similar items"), ids.length ? rows(ids, outputs.score[0].slice(0, ids.length))
      : h("p.muted", {}, "The model doesn't know this item."));
  }

  return { open };
}
