// The calls that the page made, at its foot, and copies of them.

import { asCurl, asPython, calls, duration, onCall } from "./calls.js";
import { fill, h, icon, toast } from "./dom.js";

const SHOWN = 20;

/** Copy a call as curl or Python; where the browser allows no copying, the text is shown to be copied by hand. */
export async function copyCall(call, language) {
  const text = language === "curl" ? asCurl(call) : asPython(call);
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied as ${language}`);
  } catch {
    const dialog = document.getElementById("copy");
    const field = h("textarea", { readonly: true, rows: 12, "aria-label": `The call as ${language}` });
    field.value = text;
    fill(dialog, h("h2", {}, `The call as ${language}`), field,
      h("div.buttons", {}, h("button.secondary", { type: "button", onclick: () => dialog.close() }, "Close")));
    dialog.showModal();
    field.select();
  }
}

/** Keep the list of calls up to date. */
export function makeCallList(place) {
  const count = h("span.muted"), body = h("tbody");
  fill(place, h("summary", {}, h("span", {}, "Calls"), count),
    h("div.scroll", {}, h("table", {},
      h("thead", {}, h("tr", {}, ["Signature", "Model", "Time", "Status", ""].map((name) => h("th", { scope: "col" }, name)))),
      body)));

  function line(call) {
    const buttons = ["curl", "Python"].map((language) => h("button.small", {
      type: "button", "aria-label": `Copy ${call.signature} as ${language}`, onclick: () => copyCall(call, language),
    }, icon("copy"), language));
    return h("tr", {}, h("td", {}, h("code", {}, call.signature)), h("td", {}, `${call.model} ${call.version}`),
      h("td.number", {}, duration(call.milliseconds)),
      h("td", { title: call.error ?? "" }, call.error ? `failed${call.status ? ` (${call.status})` : ""}` : "ok"),
      h("td.buttons", {}, buttons));
  }

  onCall((call) => {
    count.textContent = `${calls.length}, the last took ${duration(call.milliseconds)}`;
    if (place.open) draw();
  });
  const draw = () => fill(body, calls.slice(0, SHOWN).map(line));
  place.addEventListener("toggle", draw);
}
