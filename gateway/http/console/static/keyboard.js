// Keys without Ctrl, Alt or Meta, wherever nobody writes.

import { button, el } from "./dom.js";

const SEQUENCE_MS = 1500;
const groups = new Map();
let begun = "";
let begunAt = 0;

/**
 * Give keys a meaning, in place of what the group had before.
 * @param {string} group What the help calls them.
 * @param {Array<[string, string, (event: KeyboardEvent) => void]>} bindings Keys such as "j" or "g s", what they do,
 *   and the function that does it.
 */
export function bindKeys(group, bindings) {
  if (bindings.length) groups.set(group, bindings);
  else groups.delete(group);
}

/** Begin to listen. */
export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.key === "Escape" && isWriting(event.target)) {
      event.target.blur();
      return;
    }
    if (isWriting(event.target) || document.querySelector("dialog[open]")) return;
    // What a button or a link does with Enter and Space is its own.
    if ((event.key === "Enter" || event.key === " ") && event.target.closest?.("button, a, summary, input, select")) return;
    const sequence = begun && Date.now() - begunAt < SEQUENCE_MS ? `${begun} ${event.key}` : event.key;
    begun = "";
    const known = [...groups.values()].flat();
    const binding = known.find(([keys]) => keys === sequence) ?? known.find(([keys]) => keys === event.key);
    if (binding) {
      event.preventDefault();
      binding[2](event);
    } else if (known.some(([keys]) => keys.startsWith(`${event.key} `))) {
      begun = event.key;
      begunAt = Date.now();
    }
  });
}

/** Show what the keys do. */
export function showHelp() {
  const close = () => dialog.close();
  const dialog = el(
    "dialog.help",
    { "aria-labelledby": "help-title" },
    el("header.dialog-head", {}, el("h2", { id: "help-title" }, "Keys"), button("Close", close)),
    [...groups].map(([group, bindings]) => [
      el("h3", {}, group),
      el(
        "dl.keys",
        {},
        bindings.map(([keys, label]) => [
          el("dt", {}, keys.split(" ").map((key) => [el("kbd", {}, key), " "])),
          el("dd", {}, label),
        ]),
      ),
    ]),
    el("p.soft.small", {}, "Esc closes what is open, and leaves a field."),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function isWriting(target) {
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range", "button", "submit"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}
