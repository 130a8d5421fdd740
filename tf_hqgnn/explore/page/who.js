// The left side: a user with what it took, or a history that is put together by searching titles.

import { ask } from "./calls.js";
import { combobox } from "./combobox.js";
import { fill, h, icon } from "./dom.js";
import { about, learn, nameElement, need } from "./names.js";

/**
 * Draw the left side.
 * @param {HTMLElement} place
 * @param {Object} state the page's: {mode, userId, history}
 * @param {{changed: () => void, open: (id: string) => void, report: (error: Error) => void}} page
 */
export function makeWho(place, state, page) {
  const users = combobox({
    label: "Find a user by id",
    find: async (text, signal) => (await ask("/explore/api/users", { text, limit: 8 }, signal)).users,
    show: (user) => [h("bdi", {}, user.user_id), h("span.muted", {}, `${user.num_taken} taken`)],
    choose: (user) => chooseUser(user.user_id),
    nothing: (text) => ["No such user. ", h("button.link", {
      type: "button", onmousedown: () => { users.close(); chooseUser(text); },
    }, "Ask for it anyway")],
    chooseText: (text) => chooseUser(text),
  });
  const titles = combobox({
    label: "Add an item by title or id",
    find: async (text, signal) => (await ask("/explore/api/items", { text, limit: 8 }, signal)).items,
    show: (item) => [h("bdi", {}, item.title || item.item_id), h("bdi.muted", {}, item.category)],
    choose: (item) => { learn([item]); addToHistory(item.item_id); },
    nothing: () => ["No title or id has these words."],
  });
  const random = h("button.icon-button", {
    type: "button", title: "A random user (R)", "aria-label": "A random user", onclick: () => chooseUser(),
  }, icon("dice"));
  const modes = [["user", "A user"], ["history", "A history"]].map(([mode, text]) =>
    h("button", { type: "button", onclick: () => setMode(mode), "data-mode": mode }, text));
  const search = h("div.search");
  const heading = h("div.heading"), taken = h("ol.taken", { "aria-label": "Items taken" });
  fill(place, h("div.segments", { role: "group", "aria-label": "Recommend to" }, modes), search, heading, taken);
  let user = null;

  async function lookUp(userId) {
    user = await ask("/explore/api/user", userId === undefined ? {} : { user_id: userId });
    learn(user.taken);
    Object.assign(state, { mode: "user", userId: user.user_id });
    draw();
    page.changed();
  }

  const chooseUser = (userId) => lookUp(userId).catch(page.report);

  function setMode(mode) {
    if (mode === "user" && state.userId === null) return chooseUser();
    state.mode = mode;
    draw();
    page.changed();
    if (mode === "history" && !state.history.length) titles.input.focus();
  }

  function addToHistory(id) {
    state.mode = "history";
    if (!state.history.includes(id)) state.history.push(id);
    draw();
    page.changed();
  }

  function setHistory(ids) {
    state.history = ids;
    draw();
    page.changed();
  }

  function entry(id, removable) {
    const name = h("button.name", { type: "button", onclick: () => page.open(id) }, nameElement(id));
    const remove = h("button.icon-button", {
      type: "button", "aria-label": `Take ${name.textContent} out of the history`,
      onclick: () => setHistory(state.history.filter((one) => one !== id)),
    }, icon("close"));
    return h("li", {}, h("div", {}, name, h("bdi.muted.small", {}, about(id).category)), removable && remove);
  }

  function drawUser() {
    const more = user.num_taken - user.taken.length;
    fill(heading,
      h("h2", {}, "User ", h("bdi", {}, user.user_id)),
      h("p.muted", {}, user.num_taken ? `took ${user.num_taken} items, the most popular first`
        : user.known_user ? "took nothing yet" : "isn't known to the model: it gets what is popular"));
    fill(taken, user.taken.map((item) => entry(item.item_id, false)),
      more > 0 && h("li.muted", {}, `and ${more} more`));
  }

  function drawHistory() {
    const { history } = state;
    fill(heading,
      h("h2", {}, "A history"),
      h("p.muted", {}, history.length ? `of ${history.length} item${history.length === 1 ? "" : "s"}`
        : "Search for titles that somebody might have taken. Until then you see what is popular."),
      history.length > 0 && h("button.link", { type: "button", onclick: () => setHistory([]) }, "Start over"));
    fill(taken, [...history].reverse().map((id) => entry(id, true)));
  }

  function draw() {
    for (const mode of modes) mode.setAttribute("aria-pressed", String(mode.dataset.mode === state.mode));
    fill(search, state.mode === "user" ? [users.element, random] : titles.element);
    if (state.mode === "history") drawHistory();
    else if (user) drawUser();
  }

  return {
    /** Begin with what the address of the page says. */
    async start() {
      await need(state.history);
      if (state.mode === "history") setMode("history");
      else await lookUp(state.userId ?? undefined);
    },
    chooseUser,
    addToHistory,
    focus: () => (state.mode === "user" ? users : titles).input.focus(),
    /** After a new version has come, its histories may be others. */
    async refresh() {
      if (user) {
        user = await ask("/explore/api/user", { user_id: user.user_id });
        learn(user.taken);
      }
      await need(state.history);
      draw();
    },
  };
}
