// Titles and categories of items: asked for once, shown as text.

import { ask } from "./calls.js";
import { h } from "./dom.js";

const known = new Map();
const AT_ONCE = 1000;

/** Keep what the server says of items. */
export function learn(items) {
  for (const item of items) known.set(item.item_id, item);
}

/** Ask for what isn't known yet of the given ids. */
export async function need(ids) {
  const missing = [...new Set(ids)].filter((id) => !known.has(id));
  for (let start = 0; start < missing.length; start += AT_ONCE) {
    learn((await ask("/explore/api/items", { item_ids: missing.slice(start, start + AT_ONCE) })).items);
  }
}

/** Forget everything: a new version may have other titles. */
export const forget = () => known.clear();

export const about = (id) => known.get(id) ?? { item_id: id, title: "", category: "", popularity_rank: null };

/** What an item is called: its title, or its id where it has none. */
export const nameOf = (id) => about(id).title || id;

/** The name of an item as an element that may be written in either direction. */
export const nameElement = (id) => h("bdi", {}, nameOf(id));

/** A tile with the first letter of an item, in the colour of its category; grey where it has none. */
export function tile(id) {
  const { category } = about(id);
  let sum = 0;
  for (const letter of category) sum = (sum * 31 + letter.codePointAt(0)) % 65521;
  const element = h(category ? "span.tile" : "span.tile.plain", { "aria-hidden": "true" }, [...nameOf(id).replace(/^(the|a|an) /i, "")][0] ?? "");
  element.style.setProperty("--hue", Math.round((sum * 137.508) % 360));
  return element;
}
