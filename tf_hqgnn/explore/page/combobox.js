// A search field with suggestions, as ARIA's combobox pattern has it.

import { h, fill, icon } from "./dom.js";

const PAUSE_MILLISECONDS = 120;
let count = 0;

/**
 * Make a search field.
 * @param {Object} options
 * @param {string} options.label what is searched, also shown in the empty field
 * @param {(text: string, signal: AbortSignal) => Promise<Object[]>} options.find
 * @param {(found: Object) => Array} options.show children of a suggestion
 * @param {(found: Object) => void} options.choose
 * @param {(text: string) => Array} options.nothing what to say where nothing is found
 * @param {(text: string) => void} [options.chooseText] what Enter does where nothing is found
 */
export function combobox({ label, find, show, choose, nothing, chooseText = () => {} }) {
  const id = `suggestions-${++count}`;
  const list = h("ul.suggestions", { id, role: "listbox", "aria-label": label, hidden: true });
  const input = h("input", {
    type: "search", role: "combobox", placeholder: label, "aria-label": label, "aria-expanded": "false",
    "aria-controls": id, "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", maxlength: 200,
    oninput: () => search(), onkeydown: (event) => move(event), onfocus: () => found.length && open(true),
    onblur: () => open(false),
  });
  const element = h("div.combobox", {}, icon("search"), input, list);
  let found = [], active = -1, timer = 0, asking = null;
  // Enter that came before what was found.
  let isSearching = false, isEntered = false;

  function open(isOpen) {
    list.hidden = !isOpen;
    input.setAttribute("aria-expanded", String(isOpen));
  }

  function select(place) {
    active = place;
    [...list.children].forEach((child, index) => child.setAttribute("aria-selected", String(index === place)));
    if (place >= 0) {
      input.setAttribute("aria-activedescendant", `${id}-${place}`);
      list.children[place].scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  function search() {
    clearTimeout(timer);
    asking?.abort();
    const text = input.value;
    isEntered = false;
    isSearching = Boolean(text.trim());
    if (!isSearching) {
      found = [];
      return open(false);
    }
    timer = setTimeout(async () => {
      asking = new AbortController();
      const { signal } = asking;
      try {
        found = await find(text, signal);
        isSearching = false;
        draw(text);
        if (isEntered) enter();
      } catch (error) {
        if (error.name === "AbortError") return;
        found = [];
        isSearching = false;
        fill(list, h("li.none", {}, error.message));
        open(true);
      }
    }, PAUSE_MILLISECONDS);
  }

  function draw(text) {
    fill(list, found.map((one, place) => h("li", {
      id: `${id}-${place}`, role: "option", "aria-selected": "false",
      // Before the field loses the focus, which closes the list.
      onmousedown: (event) => { event.preventDefault(); take(place); },
    }, show(one))));
    if (!found.length) fill(list, h("li.none", { onmousedown: (event) => event.preventDefault() }, nothing(text)));
    select(found.length ? 0 : -1);
    open(document.activeElement === input);
  }

  function take(place) {
    const one = found[place];
    if (one === undefined) return;
    close();
    choose(one);
  }

  function enter() {
    const text = input.value;
    if (isSearching) isEntered = true;
    else if (found.length) take(active);
    else if (text.trim()) {
      close();
      chooseText(text);
    }
  }

  function close() {
    input.value = "";
    found = [];
    open(false);
  }

  function move(event) {
    if (event.key === "Escape") {
      if (list.hidden) input.blur();
      open(false);
    } else if (event.key === "Enter") {
      event.preventDefault();
      enter();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && found.length) {
      event.preventDefault();
      open(true);
      select((active + (event.key === "ArrowDown" ? 1 : -1) + found.length) % found.length);
    }
  }

  return { element, input, close };
}
