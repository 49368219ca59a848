// The page: who is signed in, which view is open, and what holds for all of them.

import { apiKey, ApiError, setApiKey } from "./api.js";
import { openCodebases } from "./codebases.js";
import { button, el, replace, svg } from "./dom.js";
import { bindKeys, listenToKeys, showHelp } from "./keyboard.js";
import { openLogin } from "./login.js";
import { openMap } from "./map.js";
import { errorBox } from "./notices.js";
import { openQuality } from "./quality.js";
import { address, go, place } from "./router.js";
import { openSearch } from "./search.js";
import { me, signedOut, signIn } from "./session.js";
import { openSpaces } from "./spaces.js";
import { openTraining } from "./training.js";

// A view takes the place to fill, its parameters and a signal that it was left; it may return `update` for other parameters.
const VIEWS = {
  search: { title: "Search", key: "s", open: openSearch },
  map: { title: "Map", key: "m", open: openMap },
  codebases: { title: "Codebases", key: "c", open: openCodebases },
  quality: { title: "Quality", key: "q", open: openQuality },
  spaces: { title: "Spaces", key: "p", open: openSpaces, isForAdmins: true },
  training: { title: "Training", key: "t", open: openTraining, isForAdmins: true },
};
const top = document.getElementById("top");
const main = document.getElementById("main");
let current = { name: "", leave: new AbortController(), view: null };

function allowedViews() {
  return Object.entries(VIEWS).filter(([, view]) => !view.isForAdmins || me()?.admin);
}

async function show() {
  const { view: name, params } = place();
  if (!me()) return;
  const view = VIEWS[name];
  if (current.name === name && current.view?.update) {
    current.view.update(params);
    return;
  }
  leave();
  drawTop(name);
  document.title = `${view?.title ?? "Nothing"} – duovec`;
  if (!view) {
    replace(main, el("h1", {}, "Nothing here"), errorBox(new ApiError(`There is no view “${name}”.`)), el("p", {}, el("a", { href: address("search") }, "Search")));
    return;
  }
  current.name = name;
  const opened = current;
  main.setAttribute("aria-busy", "true");
  try {
    opened.view = await view.open(main, params, opened.leave.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    if (error.isAboutTheKey) signOut(error);
    else replace(main, errorBox(error, { retry: () => { current.name = ""; show(); } }));
  } finally {
    if (current === opened) main.removeAttribute("aria-busy");
  }
}

function leave() {
  current.leave.abort();
  current = { name: "", leave: new AbortController(), view: null };
  bindKeys("Here", []);
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  replace(main);
  main.removeAttribute("aria-busy");
  window.scrollTo(0, 0);
}

function drawTop(name) {
  const brand = el(
    "a.brand",
    { href: address("search"), "aria-label": "duovec, search" },
    svg("svg", { viewBox: "0 0 32 32", width: 26, height: 26, "aria-hidden": "true" },
      svg("circle.brand-code", { cx: 12, cy: 16, r: 9 }), svg("circle.brand-text", { cx: 20, cy: 16, r: 9 })),
    "duovec",
  );
  const links = allowedViews().map(([key, { title }]) =>
    el("a", { href: address(key), "aria-current": key === name ? "page" : null }, title),
  );
  const who = me();
  replace(
    top,
    brand,
    who && el("nav", { "aria-label": "Views" }, links),
    el(
      "div.top-end",
      {},
      who && el("span.who", { title: who.admin ? "an administrator" : "signed in" }, who.displayName || who.principalId),
      button("◐", toggleTheme, { kind: "quiet", "aria-label": "Dark or light", title: "Dark or light" }),
      button("?", showHelp, { kind: "quiet", "aria-label": "Keys", title: "Keys" }),
      who && button("Sign out", () => signOut(), { kind: "quiet" }),
    ),
  );
  top.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function toggleTheme() {
  window.duovecTheme.toggle();
}

function signOut(error = null) {
  setApiKey("");
  signedOut();
  leave();
  begin(error);
}

/** Show the form for a key, or with a key that holds the view that the address names. */
async function begin(error = null) {
  drawTop("");
  bindGlobalKeys();
  if (!apiKey() || error) {
    document.title = "Sign in – duovec";
    main.removeAttribute("aria-busy");
    openLogin(main, { error, onSignedIn: begun });
    return;
  }
  main.setAttribute("aria-busy", "true");
  try {
    await signIn();
  } catch (failure) {
    main.removeAttribute("aria-busy");
    if (!(failure instanceof ApiError)) throw failure;
    if (failure.isAboutTheKey) signOut(failure);
    else replace(main, errorBox(failure, { retry: () => begin() }));
    return;
  }
  begun();
}

function begun() {
  bindGlobalKeys();
  show();
}

function bindGlobalKeys() {
  const keys = [
    ["?", "Show the keys", showHelp],
    ["d", "Dark or light", toggleTheme],
  ];
  const ways = me() ? allowedViews().map(([name, view]) => [`g ${view.key}`, view.title, () => go(name)]) : [];
  bindKeys("Everywhere", keys);
  bindKeys("Go to", ways);
}

window.addEventListener("hashchange", show);
// A key that ends while a view is open ends the session.
window.addEventListener("duovec-key-refused", (event) => me() && signOut(event.detail));
listenToKeys();
begin();
