// The form for an API key.

import { ApiError, setApiKey } from "./api.js";
import { el, replace } from "./dom.js";
import { errorBox } from "./notices.js";
import { signIn } from "./session.js";

/** Ask for a key; `error` says why the last one did not do. */
export function openLogin(root, { error, onSignedIn }) {
  const input = el("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    placeholder: "duovec_…",
    "aria-describedby": "key-help",
  });
  const failure = el("div", {}, error && errorBox(error));
  const submit = el("button.primary", { type: "submit" }, "Sign in");
  const form = el(
    "form.login.card",
    {},
    el("h1", {}, "Search your code by meaning"),
    el("label", { for: "key" }, "API key"),
    el("div.row", {}, input, submit),
    el(
      "p.soft.small",
      { id: "key-help" },
      "This tab alone holds it, until it is closed. ",
      el("code", {}, "duovec up"),
      " leaves the first key in ",
      el("code", {}, "DATA_DIR/admin.key"),
      "; ",
      el("code", {}, "duovec key create"),
      " makes others.",
    ),
    failure,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    replace(failure);
    setApiKey(input.value.trim());
    try {
      await signIn();
      onSignedIn();
    } catch (refusal) {
      if (!(refusal instanceof ApiError)) throw refusal;
      setApiKey("");
      replace(failure, errorBox(refusal));
      input.select();
    } finally {
      submit.disabled = false;
    }
  });
  replace(root, form);
  input.focus();
}
