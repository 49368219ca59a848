// Codebases: what is in them, and who may do what with them.

import { ApiError, call, callAll } from "./api.js";
import { button, el, freshId, replace, visible } from "./dom.js";
import { ago, at, count, enumName } from "./format.js";
import { bindKeys } from "./keyboard.js";
import { confirmed, errorBox, loadInto, toast } from "./notices.js";
import { address, rename } from "./router.js";
import { listCodebases, me } from "./session.js";
import { badge, heading, progress, table } from "./tables.js";

const ROLES = ["ROLE_READ", "ROLE_WRITE", "ROLE_OWNER"];
const ROLE_NAMES = { ROLE_READ: "read", ROLE_WRITE: "write", ROLE_OWNER: "owner" };

/** Open the view. */
export async function openCodebases(root, params, signal) {
  const list = el("div");
  const grants = el("section.card", { hidden: true, "aria-label": "Grants" });
  const load = () => loadInto(list, signal, async () => overview(await listCodebases(signal), showGrants));
  async function showGrants(codebaseId) {
    rename("codebases", codebaseId ? { codebase: codebaseId } : {});
    grants.hidden = !codebaseId;
    if (!codebaseId) return;
    await loadInto(grants, signal, () => grantsOf(codebaseId, signal, () => showGrants(codebaseId), () => showGrants("")));
    grants.scrollIntoView({ block: "nearest" });
  }
  replace(root, heading("Codebases", button("Reload", load, { kind: "quiet", title: "Count again (r)" })), list, grants);
  bindKeys("Here", [["r", "Count again", load]]);
  const update = (changed) => showGrants(changed.get("codebase") ?? "");
  await load();
  update(params);
  return { update };
}

function overview(codebases, showGrants) {
  if (!codebases.length) {
    return el("p.card.empty", {}, "You see none. “duovec index path/to/code --codebase mine” makes one.");
  }
  const rows = codebases.map((codebase) => {
    const { codebaseId, displayName } = codebase;
    const done = Number(codebase.chunkCount);
    const total = done + Number(codebase.pendingChunkCount);
    return [
      [el("strong", {}, codebaseId), displayName !== codebaseId && el("div.soft.small", {}, visible(displayName))],
      count(total),
      progress(`Chunks of ${codebaseId} with a vector`, done, total),
      revisionOf(codebase),
      el("time", { datetime: codebase.createTime, title: at(codebase.createTime) }, ago(codebase.createTime)),
      el(
        "div.actions",
        {},
        el("a.button.quiet", { href: address("search", { in: codebaseId }), "aria-label": `Search ${codebaseId}` }, "Search"),
        el("a.button.quiet", { href: address("map", { codebase: codebaseId }), "aria-label": `Map of ${codebaseId}` }, "Map"),
        button("Grants", () => showGrants(codebaseId), { kind: "quiet", "aria-label": `Grants on ${codebaseId}` }),
      ),
    ];
  });
  const number = (name) => ({ name, isNumber: true });
  return table("Codebases", ["Codebase", number("Chunks"), "With a vector", "Holds", "Made", ""], rows);
}

function revisionOf({ revision }) {
  if (!revision) return el("span.soft", {}, "no commit recorded");
  const { branch, commitId, commitTime, outdated, modified } = revision;
  return [
    el("div", {}, branch && [visible(branch), " "], el("code", { title: commitId }, commitId.slice(0, 10)),
      commitTime && el("span.soft", {}, ` ${ago(commitTime)}`)),
    (outdated || modified) &&
      el("div", {}, outdated && badge("written to since", "busy"), " ", modified && badge("uncommitted changes", "busy")),
  ];
}

async function grantsOf(codebaseId, signal, reload, close) {
  const [grants, principals] = await Promise.all([
    callAll("CodebaseService/ListGrants", { codebaseId }, "grants", signal),
    callAll("PrincipalService/ListPrincipals", {}, "principals", signal),
  ]);
  const failure = el("div");
  /** Do something about a grant, say that it was done, and show what is there now. */
  const change = async (method, request, done) => {
    replace(failure);
    try {
      await call(method, request, signal);
      toast(done);
      await reload();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      replace(failure, errorBox(error));
    }
  };
  const grant = (principalId, role) =>
    change("CodebaseService/SetGrant", { grant: { codebaseId, principalId, role } }, `${principalId} may ${ROLE_NAMES[role] === "owner" ? "own" : ROLE_NAMES[role]} ${codebaseId}.`);
  const revoke = async (principalId) => {
    const mine = principalId === me().principalId ? " It is your own." : "";
    const text = `${principalId} will not see ${codebaseId} any more, from the next request on.${mine}`;
    if (!(await confirmed(`Revoke the role of ${principalId}?`, text, "Revoke"))) return;
    await change("CodebaseService/DeleteGrant", { codebaseId, principalId }, `${principalId} has no role on ${codebaseId} any more.`);
  };
  const rows = grants.map(({ principalId, role, createTime }) => [
    el("strong", {}, principalId),
    roleField(`Role of ${principalId}`, role, (chosen) => grant(principalId, chosen)),
    el("time", { datetime: createTime, title: at(createTime) }, ago(createTime)),
    button("Revoke", () => revoke(principalId), { kind: "quiet", "aria-label": `Revoke the role of ${principalId}` }),
  ]);
  return [
    el("div.heading", {}, el("h2", {}, `Grants on ${codebaseId}`), button("Close", close, { kind: "quiet" })),
    rows.length ? table(`Grants on ${codebaseId}`, ["Principal", "Role", "Since", ""], rows) : el("p.soft", {}, "Nobody has a role."),
    grantForm(principals, grant),
    failure,
  ];
}

function grantForm(principals, grant) {
  const nameId = freshId("principal");
  const known = el("datalist", { id: `${nameId}-known` }, principals.map(({ principalId }) => el("option", { value: principalId })));
  const name = el("input", {
    id: nameId,
    list: known.id,
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 63,
    placeholder: "alice",
  });
  const role = roleField("Role to grant", "ROLE_READ");
  const form = el(
    "form.row",
    {},
    el("div.field", {}, el("label", { for: nameId }, "Grant to"), name, known),
    el("div.field", {}, el("label", { for: role.id }, "Role"), role),
    el("button.primary", { type: "submit" }, "Grant"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    grant(name.value.trim(), role.value);
  });
  return form;
}

function roleField(label, role, onChange = null) {
  const options = ROLES.map((value) => el("option", { value, selected: value === role }, ROLE_NAMES[value] ?? enumName(value, "ROLE_")));
  const field = el("select", { id: freshId("role"), "aria-label": label }, options);
  if (onChange) field.addEventListener("change", () => onChange(field.value));
  return field;
}
