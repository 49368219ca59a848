// Spaces: which pair of encoders made the vectors, how many chunks have one, and changing to another pair.

import { ApiError, call } from "./api.js";
import { button, el, replace, visible } from "./dom.js";
import { ago, at, count, counted, duration, enumName, percent } from "./format.js";
import { bindKeys } from "./keyboard.js";
import { confirmed, errorBox, loadInto, toast } from "./notices.js";
import { badge, heading, progress } from "./tables.js";

const POLL_MS = 2000;
const KINDS = { SPACE_STATE_ACTIVE: "good", SPACE_STATE_BUILDING: "busy", SPACE_STATE_DROPPING: "bad" };

/** Open the view. */
export async function openSpaces(root, params, signal) {
  const list = el("div.cards");
  const failure = el("div");
  const speed = new Speed();
  let timer = 0;

  async function load() {
    clearTimeout(timer);
    await loadInto(list, signal, async () => {
      const reply = await call("SpaceService/ListSpaces", {}, signal);
      // What goes on is watched, while somebody looks.
      if (reply.spaces.some(({ reembedding }) => reembedding)) timer = setTimeout(() => (document.hidden ? later() : load()), POLL_MS);
      return cards(reply, speed, change);
    });
  }
  function later() {
    document.addEventListener("visibilitychange", load, { once: true, signal });
  }
  async function change(method, request, done) {
    replace(failure);
    try {
      await call(method, request, signal);
      toast(done);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      replace(failure, errorBox(error));
    }
    await load();
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  replace(root, heading("Spaces", button("Reload", load, { kind: "quiet", title: "Look again (r)" })),
    el("p.soft", {}, "Every vector belongs to a space: the exact pair of published encoders that made it. Vectors of two spaces never meet."),
    failure, list);
  bindKeys("Here", [["r", "Look again", load]]);
  await load();
}

/** Chunks a second, from how many were pending at two looks. */
class Speed {
  constructor() {
    this.before = new Map();
  }

  /** The speed since the first look at what goes on; null before there are two. */
  of({ fingerprint, pendingChunkCount, reembedding }) {
    const pending = Number(pendingChunkCount);
    const now = performance.now();
    const first = this.before.get(fingerprint);
    if (!reembedding) this.before.delete(fingerprint);
    else if (!first || pending > first.pending) this.before.set(fingerprint, { pending, now });
    const perSecond = reembedding && first ? ((first.pending - pending) * 1000) / (now - first.now) : 0;
    return perSecond > 0 ? perSecond : null;
  }
}

function cards({ spaces, servedSpace }, speed, change) {
  const isBuilt = spaces.some(({ fingerprint }) => fingerprint === servedSpace);
  const fallback = spaces.find(({ state }) => state === "SPACE_STATE_STANDBY");
  return [
    ...[...spaces].reverse().map((space) => card(space, space.fingerprint === servedSpace, fallback, speed, change)),
    !isBuilt &&
      el(
        "section.card",
        {},
        el("h2", {}, "The served encoders make another space"),
        el("p", {}, code(servedSpace), " is not built yet. Building it changes nothing for those who search."),
        el("p.actions", {}, button("Build it", () => change("SpaceService/BuildSpace", {}, "The space is built; have it filled next."), { kind: "primary" })),
      ),
  ];
}

function card(space, isServed, fallback, speed, change) {
  const total = Number(space.chunkCount);
  const pending = Number(space.pendingChunkCount);
  const perSecond = speed.of(space);
  const state = enumName(space.state, "SPACE_STATE_");
  return el(
    "section.card.space",
    { "aria-label": `Space ${space.fingerprint.slice(0, 12)}` },
    el("div.heading", {}, el("h2", {}, code(space.fingerprint)), el("div", {}, badge(state, KINDS[space.state] ?? ""), " ", isServed && badge("served"))),
    el("dl.facts", {}, fact("Code encoder", encoder(space.codeEncoder)), fact("Text encoder", encoder(space.textEncoder)),
      fact("Built", time(space.createTime)), space.activateTime && fact("Active since", time(space.activateTime))),
    el("p.coverage", {}, progress("Chunks with a vector in this space", total - pending, total),
      el("span", {}, ` ${count(total - pending)} of ${counted(total, "chunk")} have a vector`)),
    space.reembedding &&
      el("p", {}, badge("re-embedding", "busy"), perSecond ? ` ${perSecond.toFixed(1)} chunks a second, about ${duration(pending / perSecond)} to go` : " …",
        space.maxChunksPerSecond > 0 && `, at most ${space.maxChunksPerSecond} a second`),
    Number(space.truncatedChunkCount) > 0 && el("p.soft", {}, `${counted(space.truncatedChunkCount, "chunk")} cut at an encoder's limit`),
    space.error && el("p.warning", {}, `The last batch failed: ${visible(space.error)}`),
    verification(space.verification),
    el("p.actions", {}, actions(space, pending, fallback, change)),
  );
}

function actions(space, pending, fallback, change) {
  const id = space.fingerprint;
  const short = id.slice(0, 12);
  const found = [];
  if (space.state !== "SPACE_STATE_ACTIVE" && space.state !== "SPACE_STATE_DROPPING") {
    if (space.reembedding) {
      found.push(button("Stop re-embedding", () => change("SpaceService/ReembedSpace", { space: id, stop: true }, "Stopped; what was embedded stays.")));
    } else if (pending > 0 || !space.verification) {
      found.push(button("Re-embed", () => change("SpaceService/ReembedSpace", { space: id }, "Chunks are being embedded; queries come first.")));
    }
    if (space.state === "SPACE_STATE_BUILDING" && pending === 0 && space.verification) {
      found.push(button("Verify again", () => change("SpaceService/ReembedSpace", { space: id, maxChunksPerSecond: space.maxChunksPerSecond }, "It is verified as it is now.")));
    }
    if (pending === 0) found.push(
      button("Activate", async () => {
        const text = "Searches and indexing go to it from then on, in one step. The space before stays filled, and can be rolled back to.";
        if (await confirmed(`Activate ${short}?`, text, "Activate", { kind: "primary" })) {
          await change("SpaceService/ActivateSpace", { space: id }, `${short} is active.`);
        }
      }),
    );
  }
  if (space.state === "SPACE_STATE_ACTIVE" && fallback) {
    found.push(
      button("Roll back", async () => {
        const text = `${fallback.fingerprint.slice(0, 12)}, which was active before, is searched again from then on.`;
        if (await confirmed("Roll back?", text, "Roll back")) await change("SpaceService/RollbackSpace", {}, "Rolled back.");
      }),
    );
  }
  return found;
}

function verification(found) {
  if (!found) return null;
  const { passed, faults, time: when, recomputedCount, minCosine, meanRecall, minRecall, questionCount, mrr, activeMrr, notices } = found;
  return [
    el("dl.facts", {},
      fact("Verified", [badge(passed ? "passed" : "failed", passed ? "good" : "bad"), " ", time(when)]),
      fact("Embedded again", `${counted(recomputedCount, "chunk")}, least cosine ${minCosine.toFixed(5)}`),
      meanRecall !== undefined && fact("Recall@10 of its index", `${percent(meanRecall, 1)}, at worst ${percent(minRecall ?? 0, 1)}`),
      Number(questionCount) > 0 && fact("MRR@10", `${mrr.toFixed(3)}, active space ${activeMrr.toFixed(3)}, ${counted(questionCount, "question")}`)),
    faults.map((fault) => el("p.warning", {}, visible(fault))),
    notices.map((notice) => el("p.soft", {}, visible(notice))),
  ];
}

function fact(name, value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}

function encoder({ name, version, dimension, precision }) {
  return [visible(name), el("span.soft", {}, ` ${version ? `version ${version}` : "not served"}, ${dimension}, ${visible(precision)}`)];
}

function code(fingerprint) {
  return el("code", { title: fingerprint }, fingerprint.slice(0, 12));
}

function time(value) {
  return el("time", { datetime: value, title: at(value) }, ago(value));
}
