// The page: what is asked for, by whom, and what happens when something changes.

import { copyCall, makeCallList } from "./call_list.js";
import { ask, CallError, setServer } from "./calls.js";
import { compare, describe } from "./difference.js";
import { fill, h, icon } from "./dom.js";
import { makeList } from "./list.js";
import { versionsOf, watch } from "./models.js";
import { forget, nameElement, nameOf, need } from "./names.js";
import { forgetReasons } from "./reasons.js";
import { makeSheet } from "./sheet.js";
import { makeThemeButton } from "./theme_button.js";
import { makeWho } from "./who.js";

const COUNTS = [5, 10, 20, 50];
const at = (id) => document.getElementById(id);

const address = new URLSearchParams(location.hash.slice(1));
const state = {
  mode: address.has("history") ? "history" : "user",
  userId: address.get("user"),
  history: [...new Set(address.getAll("history").filter(Boolean))],
  excluded: address.getAll("exclude"),
  k: COUNTS.includes(Number(address.get("k"))) ? Number(address.get("k")) : 10,
  isComparing: false,
};
let catalogue = { categories: [], models: [] };
let isAway = false, isStarted = false;

const page = {
  state,
  asked: () => ({ ...state, numItems: catalogue.num_items }),
  categories: () => catalogue.categories,
  changed,
  report,
  open: (id, target = lists[0].settings.chosen) => sheet.open(id, { ...target }).catch(report),
  exclude(id) {
    if (!state.excluded.includes(id)) state.excluded.push(id);
    changed();
  },
  took: (id) => who.addToHistory(id),
  copy: copyCall,
  clear() {
    state.excluded = [];
    for (const list of lists) list.settings.clearFilters();
    changed();
  },
  loaded: showDifference,
};
const sheet = makeSheet(at("sheet"), page);
const lists = ["A", "B"].map((letter) => makeList(letter, page));
const who = makeWho(at("who"), state, page);

const visible = () => (state.isComparing ? lists : lists.slice(0, 1));

function report(error) {
  if (error instanceof CallError) showBanner(error.message);
  else throw error;
}

function showBanner(text) {
  at("banner").hidden = !text;
  at("banner").textContent = text;
}

/** Ask again, since what is asked for has changed. */
function changed() {
  remember();
  fill(excluded, h("span.muted", {}, state.excluded.length ? "Excluded"
    : "Open an item to see where its score comes from and what is similar."),
    state.excluded.map((id) => h("button.chip", {
      type: "button", "aria-label": `Bring ${nameOf(id)} back`,
      onclick: () => { state.excluded = state.excluded.filter((one) => one !== id); changed(); },
    }, nameElement(id), icon("close"))),
    state.excluded.length > 1 && h("button.link", { type: "button", onclick: () => { state.excluded = []; changed(); } }, "Bring all back"));
  if (!isAway) for (const list of visible()) list.load();
}

/** The address of the page leads back to what it shows. */
function remember() {
  const parts = new URLSearchParams();
  if (state.mode === "user" && state.userId !== null) parts.set("user", state.userId);
  if (state.mode === "history") for (const id of state.history.length ? state.history : [""]) parts.append("history", id);
  for (const id of state.excluded) parts.append("exclude", id);
  parts.set("k", state.k);
  history.replaceState(null, "", `#${parts}`);
}

function showDifference() {
  const [first, second] = lists.map((list) => list.ids);
  const text = state.isComparing ? describe(first, second) : "";
  at("difference").hidden = !text;
  at("difference").textContent = text;
  const { marks } = compare(first, second);
  lists.forEach((list, side) => list.mark(state.isComparing && first.length && second.length ? marks[side] : null));
}

function setComparing(isComparing) {
  state.isComparing = isComparing;
  comparing.setAttribute("aria-pressed", String(isComparing));
  document.body.classList.toggle("comparing", isComparing);
  showWidth();
  fill(at("lists"), visible().map((list) => list.element));
  showDifference();
  if (isComparing) {
    lists[1].settings.copyFrom(lists[0].settings.chosen);
    lists[1].load();
  }
}

const phone = matchMedia("(max-width: 600px)");
const showWidth = () => document.body.classList.toggle("narrow", phone.matches || state.isComparing);
phone.addEventListener("change", showWidth);
showWidth();

const counts = h("select", {
  "aria-label": "How many items", onchange: () => { state.k = Number(counts.value); changed(); },
}, COUNTS.map((count) => h("option", { value: count }, `${count} items`)));
counts.value = state.k;
const comparing = h("button.secondary", {
  type: "button", "aria-pressed": "false", title: "Compare two lists (C)", onclick: () => setComparing(!state.isComparing),
}, icon("columns"), "Compare");
const excluded = h("div.chips");
fill(at("toolbar"), excluded, h("span.space"), counts, comparing);

/** What each look at the models finds. */
async function looked(error, hasChanged) {
  const pill = at("connection"), wasAway = isAway;
  isAway = error !== null;
  pill.classList.toggle("away", isAway);
  const names = catalogue.models.filter((name) => versionsOf(name).length);
  pill.textContent = isAway ? "No answer" : catalogue.server ?? (names.length ? "Answered here" : "No model");
  pill.title = names.map((name) => `${name} ${versionsOf(name).join(", ")}`).join("; ");
  if (isAway) {
    const sentence = error.message[0].toUpperCase() + error.message.slice(1).replace(/([^.?])$/, "$1.");
    showBanner(`${sentence} The page asks again every second.`);
    for (const list of lists) list.element.classList.add("stale");
    return;
  }
  try {
    if (!isStarted || wasAway || hasChanged) {
      showBanner("");
      catalogue = await ask("/explore/api/about");
      forget();
      forgetReasons();
      for (const list of lists) list.settings.draw();
      if (isStarted) await who.refresh();
      await need(state.excluded);
      if (isStarted) changed();
      else await who.start();
      isStarted = true;
    }
  } catch (failure) {
    report(failure);
  }
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=range], [type=checkbox]), select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const run = { "/": () => who.focus(), r: () => who.chooseUser(), c: () => setComparing(!state.isComparing) }[event.key];
  if (run) {
    event.preventDefault();
    run();
  }
});
// The same item in both lists.
at("lists").addEventListener("pointerover", (event) => {
  const id = event.target.closest(".item")?.dataset.id;
  for (const line of document.querySelectorAll(".item")) line.classList.toggle("twin", state.isComparing && line.dataset.id === id);
});

makeCallList(at("calls"));
makeThemeButton(at("theme"));
fill(at("lists"), lists[0].element);
try {
  catalogue = await ask("/explore/api/about");
  at("export").textContent = catalogue.export;
  setServer(catalogue.server);
} catch (error) {
  report(error);
}
await watch(() => catalogue.models, looked);
