// One list of recommendations: asks for it, draws it, and says why each item is in it.

import { CallError, duration, predict } from "./calls.js";
import { fill, h, icon } from "./dom.js";
import { lookNow } from "./models.js";
import { about, nameElement, nameOf, need, tile } from "./names.js";
import { reasonsFor } from "./reasons.js";
import { makeSettings } from "./settings.js";

// Reasons that stand under each item.
const REASONS = 3;

/**
 * Make a list.
 * @param {string} letter what the list is called beside another one
 * @param {Object} page {state, asked, categories, changed, open, exclude, took, copy}
 */
export function makeList(letter, page) {
  const settings = makeSettings({ ...page, changed: () => load() });
  const title = h("h2"), timing = h("div.timing"), note = h("p.note", { hidden: true });
  const items = h("ol.items", { "aria-label": `List ${letter}` });
  const element = h("section.list", { "data-list": letter }, settings.element,
    h("div.list-head", {}, h("span.letter", {}, letter), title, timing), note, items);
  // The place of an item that has been excluded: the next one there gets the focus, so that X, X, X goes on.
  let asking = null, ids = [], excludedPlace = null;

  async function load() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    element.setAttribute("aria-busy", "true");
    try {
      const [signature, inputs] = await settings.request();
      if (signal.aborted) return;
      const { outputs, call } = await predict(settings.chosen, signature, inputs, signal);
      if (!outputs.num_valid || !outputs.item_id) throw new CallError("Its answer isn't that of a tf_hqgnn model.", false, 200);
      const count = outputs.num_valid[0];
      ids = outputs.item_id[0].slice(0, count);
      const scores = outputs.score[0].slice(0, count);
      settings.learnScale(scores);
      await need(ids);
      if (signal.aborted) return;
      draw(scores, outputs.known_user[0], call);
      page.loaded();
      if (outputs.known_user[0] && ids.length) await explain(signal);
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      if (!(error instanceof CallError)) throw error;
      if (error.isAway) lookNow();
      fail(error);
    } finally {
      if (!signal.aborted) element.removeAttribute("aria-busy");
    }
  }

  function fail(error) {
    // What was there stays, dimmed, until the server is back: the banner says that it is away.
    element.classList.toggle("stale", error.isAway);
    if (error.isAway) return;
    ids = [];
    fill(items);
    fill(title, "Recommended");
    fill(timing);
    say(h("strong", {}, "This call has no answer to show. "), error.message);
    page.loaded();
  }

  function say(...children) {
    note.hidden = !children.length;
    fill(note, ...children);
  }

  function draw(scores, isKnown, call) {
    element.classList.remove("stale");
    fill(title, ids.length ? isKnown ? "Recommended" : "Popular" : "Nothing left");
    const [copyCurl, copyPython] = ["curl", "Python"].map((language) => h("button.small", {
      type: "button", title: `Copy this call as ${language}`, onclick: () => page.copy(call, language),
    }, icon("copy"), language));
    fill(timing, h("span.latency", { title: `${call.signature}, there and back` }, duration(call.milliseconds)),
      copyCurl, copyPython);
    const clear = h("button.link", { type: "button", onclick: () => page.clear() }, "Clear filters and exclusions");
    if (!ids.length) say("No item is left that fits the filters. ", clear);
    else if (isKnown) say();
    else if (page.state.mode === "history") say(page.state.history.length ? "The model knows none of these items."
      : "Without a history these are the most popular items.");
    else say("The model doesn't know this user: these are the most popular items.");
    // Bars begin at 0, or, where a score is below it, at the lowest one.
    const most = Math.max(...scores), least = Math.min(0, ...scores);
    fill(items, ids.map((id, place) => row(id, place, scores[place], (scores[place] - least) / (most - least || 1))));
    if (excludedPlace !== null) items.children[Math.min(excludedPlace, ids.length - 1)]?.querySelector(".name").focus();
    excludedPlace = null;
  }

  function row(id, place, score, share) {
    const { category, popularity_rank: rank } = about(id), name = nameOf(id);
    const bar = h("span.bar", { "aria-hidden": "true" }, h("i"));
    bar.firstChild.style.width = `${Math.max(2, Math.round(100 * share))}%`;
    const meta = [category && h("bdi", {}, category), rank && `No. ${rank} in popularity`].filter(Boolean);
    return h("li.item", { "data-id": id, onkeydown: (event) => onKey(event, id) },
      h("span.rank", {}, place + 1), tile(id),
      h("div.about", {},
        h("div.title", {}, h("button.name", { type: "button", onclick: () => page.open(id, settings.chosen) }, nameElement(id)),
          h("span.mark")),
        h("div.muted.small", {}, meta.flatMap((one, index) => (index ? [" · ", one] : [one]))),
        h("div.because.small", { hidden: true })),
      h("div.score", { title: `Score ${score}` }, h("span", {}, format(score)), bar),
      h("div.actions", {},
        page.state.mode === "history" && h("button.icon-button", {
          type: "button", title: "Add to the history", "aria-label": `Add ${name} to the history`, onclick: () => page.took(id),
        }, icon("plus")),
        h("button.icon-button", {
          type: "button", title: "Exclude (X)", "aria-label": `Exclude ${name}`, onclick: () => exclude(id),
        }, icon("close"))));
  }

  function onKey(event, id) {
    const rows = [...items.children], place = rows.indexOf(event.currentTarget);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      rows[place + step]?.querySelector(".name").focus();
    } else if (event.key === "x" || event.key === "Delete") {
      exclude(id);
    }
  }

  function exclude(id) {
    excludedPlace = ids.indexOf(id);
    page.exclude(id);
  }

  async function explain(signal) {
    const found = await reasonsFor({ ...settings.chosen }, page.asked(), [...ids], REASONS, signal);
    if (!found) return;
    const reasons = found.map((one) => one.ids.filter((_, rank) => one.shares[rank] > 0));
    await need(reasons.flat());
    if (signal.aborted) return;
    [...items.children].forEach((line, place) => {
      const because = line.querySelector(".because");
      because.hidden = !reasons[place]?.length;
      if (because.hidden) return;
      fill(because, icon("because"), h("span", {}, "Because of ",
        reasons[place].flatMap((id, index) => [index > 0 && ", ", h("q", {}, nameElement(id))])));
    });
  }

  return {
    element,
    settings,
    load,
    get ids() { return ids; },
    /** Mark what differs from another list: places moved, null for what only this one has. */
    mark(marks) {
      for (const line of items.children) {
        const moved = marks?.get(line.dataset.id), mark = line.querySelector(".mark");
        line.classList.toggle("only", moved === null);
        mark.classList.toggle("down", moved < 0);
        fill(mark, moved === null ? `only in ${letter}` : moved ? `${moved > 0 ? "▲" : "▼"} ${Math.abs(moved)}` : "");
        mark.title = moved ? `${Math.abs(moved)} place${Math.abs(moved) === 1 ? "" : "s"} ${moved > 0 ? "higher" : "lower"} than in the other list` : "";
      }
    },
  };
}

/** A score in three digits or so. */
export function format(score) {
  const size = Math.abs(score);
  return size >= 100 ? score.toFixed(0) : size >= 10 ? score.toFixed(1) : size >= 0.01 ? score.toFixed(3) : score.toPrecision(2);
}
