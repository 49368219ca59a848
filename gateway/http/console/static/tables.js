// Tables, bars and badges that several views share.

import { el } from "./dom.js";
import { percent } from "./format.js";

/**
 * A table that scrolls by itself where it is too wide.
 * @param {string} caption For those who do not see it.
 * @param {Array<string|{name: string, isNumber: boolean}>} columns
 * @param {Array<Array>} rows Cells: text or nodes.
 */
export function table(caption, columns, rows) {
  const heads = columns.map((column) => (typeof column === "string" ? { name: column } : column));
  const align = ({ isNumber }) => (isNumber ? { class: "number" } : {});
  return el(
    "div.wide",
    { tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption.hidden", {}, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col", ...align(head) }, head.name || el("span.hidden", {}, "Actions"))))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, n) => el("td", align(heads[n]), cell))))),
    ),
  );
}

/** A bar of how much is done, with the share beside it. */
export function progress(label, done, total) {
  const share = total > 0 ? done / total : 1;
  return el(
    "span.progress",
    {},
    el("progress", { max: 1, value: share, "aria-label": label }),
    el("span.figure", {}, percent(share === 1 ? 1 : Math.min(share, 0.999), share > 0.99 && share < 1 ? 1 : 0)),
  );
}

/** A word in a box; `kind`: good, bad, busy or nothing. */
export function badge(text, kind = "") {
  return el(`span.badge${kind ? `.${kind}` : ""}`, {}, text);
}

/** A heading with what belongs beside it. */
export function heading(title, ...beside) {
  return el("div.heading", {}, el("h1", {}, title), el("div.actions", {}, beside));
}
