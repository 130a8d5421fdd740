// The button that goes over to the next choice of colours; theme.js brings the choice back when the page opens.

import { fill, icon } from "./dom.js";

const THEMES = [["auto", "as the system", "auto"], ["light", "light", "sun"], ["dark", "dark", "moon"]];

export function makeThemeButton(button) {
  const root = document.documentElement;
  let place = THEMES.findIndex(([theme]) => theme === (root.dataset.theme ?? "auto"));

  function show() {
    const [theme, name, symbol] = THEMES[place];
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    fill(button, icon(symbol));
    button.title = `Colours: ${name}`;
    button.setAttribute("aria-label", button.title);
  }

  button.addEventListener("click", () => {
    place = (place + 1) % THEMES.length;
    try {
      localStorage.setItem("explore-theme", THEMES[place][0]);
    } catch {
      // It holds for this page, then.
    }
    show();
  });
  show();
}
