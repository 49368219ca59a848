// What went wrong, in the server's words, with what to do next; and short notes that go away.

import { button, el, replace, visible } from "./dom.js";
import { duration } from "./format.js";

const STEPS = {
  UNREACHABLE: "Start it with “duovec up”, or look at the network between here and there; then try again.",
  API_KEY_MISSING: "Sign in with an API key. “duovec key create” makes one; “duovec up” leaves the first in DATA_DIR/admin.key.",
  API_KEY_INVALID: "Check that the whole key was pasted, from duovec_ on.",
  API_KEY_EXPIRED: "Sign in with another key; “duovec key create” makes one.",
  API_KEY_REVOKED: "Sign in with another key, or ask an administrator why this one ended.",
  CODEBASE_NOT_FOUND: "Check its name; if it is there, one of its owners can grant you a role: “duovec grant add CODEBASE YOU read”.",
  ROLE_REQUIRED: "An owner of the codebase can grant you more: “duovec grant add CODEBASE YOU owner”.",
  ADMIN_REQUIRED: "Sign in with the key of an administrator to see this.",
  PRINCIPAL_NOT_FOUND: "Check the spelling; an administrator makes principals with “duovec principal create”.",
  TEXT_TOO_LONG: "Shorten it, or search with what the encoders can read of it.",
  OVERLOADED: "The service is busy. Try again in a moment.",
  QUOTA_EXCEEDED: "Wait a moment and try again, or ask an administrator for more: “duovec principal limit”.",
  TRITON_UNAVAILABLE: "The encoders are away. “duovec status” and the gateway's log say more; try again when they are back.",
  DATABASE_UNAVAILABLE: "The database is away. “duovec doctor” says more; try again when it is back.",
  DEADLINE_EXCEEDED: "It took too long. Narrow it down, or try again when less is going on.",
  SPACE_MISMATCH: "Another space was activated meanwhile. Try again.",
  CHUNK_NOT_FOUND: "It was indexed anew or deleted meanwhile. Search again.",
  SEARCH_NOT_FOUND: "Search again, and say it of the new hits.",
  INTERNAL: "This is a fault of the service. The gateway's log has the details under the request's id.",
};

/** A box for an error; `retry` adds a button. */
export function errorBox(error, { retry = null, actions = [] } = {}) {
  const wait = error.retryAfterS > 0 ? ` The service says: in ${duration(Math.ceil(error.retryAfterS))}.` : "";
  const step = `${STEPS[error.reason] ?? (error.status >= 500 ? STEPS.INTERNAL : "")}${wait}`;
  const about = [error.reason, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
  return el(
    "div.error",
    { role: "alert" },
    el("p.error-message", {}, visible(sentence(error.message))),
    step && el("p", {}, step),
    (retry || actions.length > 0) && el("p.actions", {}, retry && button("Try again", retry), actions),
    about && el("p.soft.small", {}, about),
  );
}

function sentence(text) {
  // A field's name stays as it is.
  const first = /^[a-z]+[ ,']/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

/** A line that goes away by itself. */
export function toast(text, kind = "") {
  const note = el(`p.toast${kind ? `.${kind}` : ""}`, {}, visible(text));
  const place = document.getElementById("toasts");
  if (place.childElementCount > 3) place.firstElementChild.remove();
  place.append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 10_000 : 4000);
}

/**
 * Fill a place with what a promise gives, and meanwhile with a line that says so.
 * @param {Element} place
 * @param {AbortSignal} signal Of the view; after it nothing is shown any more.
 * @param {() => Promise<Node|Node[]>} load
 */
export async function loadInto(place, signal, load) {
  place.setAttribute("aria-busy", "true");
  // Only what takes a moment says so: a line that flashes by disturbs.
  const waiting = setTimeout(() => replace(place, el("p.soft.waiting", {}, "Loading…")), 200);
  try {
    const content = await load();
    if (!signal.aborted) replace(place, content);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    if (!("reason" in error)) throw error;
    replace(place, errorBox(error, { retry: () => loadInto(place, signal, load) }));
  } finally {
    clearTimeout(waiting);
    place.removeAttribute("aria-busy");
  }
}

/**
 * Ask before what cannot be taken back.
 * @returns {Promise<boolean>}
 */
export function confirmed(title, text, action, { kind = "danger" } = {}) {
  return new Promise((resolve) => {
    const answer = (value) => () => dialog.close(value);
    const dialog = el(
      "dialog.ask",
      { "aria-label": title },
      el("h2", {}, title),
      el("p", {}, text),
      el("p.actions", {}, button(action, answer("yes"), { kind }), button("Leave it", answer("no"), { autofocus: true })),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
