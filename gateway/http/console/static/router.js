// Which view the address names: "#/search?q=…". Nothing of it reaches the server.

/** The view and its parameters. */
export function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { view: path || "search", params: new URLSearchParams(query) };
}

/** The address of a view. */
export function address(view, params = {}) {
  const search = params instanceof URLSearchParams ? params : new URLSearchParams(params);
  const query = search.toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

/** Go to a view. */
export function go(view, params = {}) {
  location.hash = address(view, params);
}

/** Name what is shown, without showing it anew; `isNew` makes it a step of the history. */
export function rename(view, params, { isNew = false } = {}) {
  const url = address(view, params);
  if (url === location.hash) return;
  if (isNew) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}
