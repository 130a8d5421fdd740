// What one list is asked with: model, version, category, and where the model can, diversity and popularity.

import { fill, h } from "./dom.js";
import { models, signaturesOf, versionsOf } from "./models.js";

const WHERE = "recommend_where";
const PAUSE_MILLISECONDS = 150;
let count = 0;

function select(label, name, onchange) {
  const field = h("select", { id: `${name}-${++count}`, name, onchange });
  return [field, h("label.field", { for: field.id }, h("span", {}, label), field)];
}

function options(field, values, chosen) {
  const text = (one) => (Array.isArray(one) ? one : [one, one]);
  fill(field, values.map(text).map(([value, shown, disabled]) => h("option", { value, disabled }, shown)));
  field.value = chosen;
}

function slider(label, name, range, onchange) {
  const id = `${name}-${++count}`, value = h("output", { for: id });
  let timer = 0;
  const field = h("input", {
    type: "range", id, name, step: 0.1, value: 0, ...range,
    oninput: () => { clearTimeout(timer); timer = setTimeout(onchange, PAUSE_MILLISECONDS); },
  });
  return [field, h("label.field.slider", { for: id }, h("span", {}, label, value), field), value];
}

/**
 * Make the settings of a list.
 * @param {{changed: () => void, categories: () => string[], state: Object}} page
 */
export function makeSettings(page) {
  const chosen = { model: "", version: "", category: "", diversity: 0, popularity: 0, allowSeen: false };
  const [model, modelField] = select("Model", "model", () => { chosen.version = ""; change(); });
  const [version, versionField] = select("Version", "version", () => change());
  const [category, categoryField] = select("Category", "category", () => change());
  const [diversity, diversityField, diverse] = slider("Diversity", "diversity", { min: 0, max: 1 }, () => change());
  const [popularity, popularityField, popular] =
    slider("Popularity", "popularity", { min: -1, max: 1 }, () => change());
  const seen = h("input", { type: "checkbox", name: "allow-seen", onchange: () => change() });
  const seenField = h("label.field", {}, h("span", {}, "Taken items"), h("span.check", {}, seen, "Include"));
  const where = [diversityField, popularityField, seenField];
  const lacking = h("p.lacking.muted.small", { hidden: true });
  const element = h("div.settings.few", {}, modelField, versionField, categoryField, where, lacking);
  // What a model's scores differ by: one unit of popularity means little to one model and all to another.
  let scale = 1;
  // Fine steps around the middle. Rare items are many and score alike: three times less brings them all.
  const weight = () => Number((scale * chosen.popularity * (chosen.popularity > 0 ? 3 * chosen.popularity : -chosen.popularity)).toPrecision(2));

  function change() {
    Object.assign(chosen, {
      model: model.value, version: version.value, category: category.value, diversity: Number(diversity.value),
      popularity: Number(popularity.value), allowSeen: seen.checked,
    });
    draw();
    page.changed();
  }

  /** Choose what answers, if what was chosen doesn't, and draw it. */
  function draw() {
    const there = [...models.keys()].filter((name) => versionsOf(name).length);
    if (!versionsOf(chosen.model).length) chosen.model = there[0] ?? chosen.model;
    const numbers = versionsOf(chosen.model);
    if (!numbers.includes(chosen.version)) chosen.version = numbers[0] ?? "";
    const names = [...models].map(([name, { reason }]) => [name, reason ? `${name} (not loaded)` : name, Boolean(reason)]);
    options(model, names, chosen.model);
    model.title = [...models].filter(([, { reason }]) => reason).map(([name, { reason }]) => `${name}: ${reason}`).join("\n");
    options(version, numbers, chosen.version);
    options(category, [["", "Any"], ...page.categories()], chosen.category);
    categoryField.hidden = !page.categories().length;
    diverse.textContent = chosen.diversity ? chosen.diversity.toFixed(1) : "off";
    popular.textContent = chosen.popularity ? `${chosen.popularity > 0 ? "+" : "−"}${Math.abs(weight())}` : "off";
  }

  return {
    element,
    draw,
    get chosen() { return chosen; },
    /** Take over the settings of another list, but for one that makes a difference. */
    copyFrom(other) {
      Object.assign(chosen, other);
      const others = versionsOf(chosen.model).filter((one) => one !== chosen.version);
      const otherModel = [...models.keys()].find((name) => name !== chosen.model && versionsOf(name).length);
      if (others.length) [chosen.version] = others;
      else if (otherModel) Object.assign(chosen, { model: otherModel, version: "" });
      diversity.value = chosen.diversity;
      popularity.value = chosen.popularity;
      seen.checked = chosen.allowSeen;
      draw();
    },
    clearFilters() {
      Object.assign(chosen, { category: "" });
      draw();
    },
    /** Learn from a list without wishes how far its scores lie apart. */
    learnScale(scores) {
      const spread = scores[0] - scores.at(-1);
      if (spread > 0 && chosen.popularity === 0 && chosen.diversity === 0) scale = spread;
    },
    /** The signature and the inputs that ask for the list, once the model says what it has. */
    async request() {
      const { mode, userId, history, excluded, k } = page.state;
      const names = await signaturesOf(chosen);
      const exclude = [excluded.length ? excluded : [""]];
      const takesWishes = mode === "user" && names.has(WHERE);
      for (const field of where) field.hidden = !takesWishes;
      lacking.hidden = takesWishes;
      lacking.textContent = mode === "history" ? "Diversity and popularity can be set for a user only: no signature takes them with a history."
        : "Diversity and popularity can't be set: this version was exported before models took them.";
      element.classList.toggle("few", !takesWishes);
      if (mode === "history") {
        const inputs = { history_item_id: [history.length ? history : [""]], k, exclude_item_id: exclude };
        return ["recommend_for_history", { ...inputs, category: [chosen.category] }];
      }
      if (!takesWishes) {
        return ["recommend", { user_id: [userId], k, exclude_item_id: exclude, category: [chosen.category] }];
      }
      return [WHERE, {
        user_id: [userId], k, exclude_item_id: exclude, include_item_id: [[""]], category: [[chosen.category]],
        exclude_category: [[""]], allow_seen: [chosen.allowSeen], diversity: [chosen.diversity],
        popularity: [weight()],
      }];
    },
  };
}
