// One hit: where it is, what both encoders and the words say, its code, and what can be done with it.

import { codeBlock } from "./code.js";
import { button, el, freshId, replace, visible, visibleNodes } from "./dom.js";
import { score } from "./format.js";

const PREVIEW_LINES = 12;

/**
 * The score of a hit at other weights, as the service works it out; null where an encoder's part is not known.
 * @param {object} hit Of a SearchResponse with encoder similarities.
 */
export function scoreAt(hit, blend, wordShare) {
  const { codeSimilarity: code, textSimilarity: text } = hit;
  if (code === undefined || text === undefined) return null;
  return (1 - wordShare) * (blend * code + (1 - blend) * text) + wordShare * hit.lexicalScore;
}

/**
 * A card.
 * @param {object} hit
 * @param {{open, like, say}} actions `say(hit, signal)` records feedback and resolves to whether it was recorded.
 */
export function hitCard(hit, actions) {
  const { chunk } = hit;
  const titleId = freshId("hit");
  const rank = el("span.rank");
  const total = el("span.total");
  const bars = {
    code: bar("code", "code encoder", hit.codeSimilarity),
    text: bar("text", "text encoder", hit.textSimilarity),
    words: bar("words", "words", hit.lexicalScore),
  };
  const states = {
    OPENED: button("Open", open, toggled("With what is around it; counts as opened (Enter)")),
    USEFUL: button("Useful", () => say("USEFUL"), toggled("It is what was looked for (u)")),
    NOT_USEFUL: button("Not useful", () => say("NOT_USEFUL"), toggled("It is not what was looked for (x)")),
  };
  async function say(signal) {
    if (!(await actions.say(hit, signal))) return;
    states[signal].setAttribute("aria-pressed", "true");
    if (signal === "USEFUL") states.NOT_USEFUL.setAttribute("aria-pressed", "false");
    if (signal === "NOT_USEFUL") states.USEFUL.setAttribute("aria-pressed", "false");
  }
  function open() {
    actions.open(hit);
    say("OPENED");
  }
  const like = () => actions.like(hit);
  const element = el(
    "li.hit.card",
    { tabindex: "-1", "aria-labelledby": titleId, "data-chunk-id": hit.chunkId },
    el(
      "header.hit-head",
      {},
      rank,
      el(
        "div.hit-title",
        {},
        el("h2", { id: titleId }, placeOf(chunk)),
        el("p.soft.small", {}, [chunk.symbol && [el("code.symbol", {}, visibleNodes(chunk.symbol)), " · "]],
          `${chunk.kind} · ${visible(chunk.language)} · ${hit.codebaseId}`),
      ),
      el("dl.scores", { "aria-label": "Scores" }, bars.code.element, bars.text.element, bars.words.element),
      el("p.score", {}, total, el("span.soft.small", {}, "score")),
    ),
    codeBlock(chunk, { maxLines: PREVIEW_LINES }),
    el(
      "footer.actions",
      {},
      states.OPENED,
      button("More like this", like, { kind: "quiet", title: "Chunks whose vectors are near this one's (m)" }),
      el("span.gap"),
      states.USEFUL,
      states.NOT_USEFUL,
    ),
  );
  return {
    hit,
    element,
    open,
    like,
    say,
    /** Show rank and score. */
    place(position, value) {
      replace(rank, String(position));
      replace(total, score(value));
    },
  };
}

function toggled(title) {
  return { kind: "quiet", "aria-pressed": "false", title };
}

/** "path:10–20" with nothing hidden in it. */
export function placeOf(chunk) {
  const cut = chunk.path.lastIndexOf("/") + 1;
  return el(
    "bdi.place",
    {},
    cut > 0 && el("span.folder", {}, visibleNodes(chunk.path.slice(0, cut))),
    visibleNodes(chunk.path.slice(cut)),
    el("span.lines", {}, chunk.startLine === chunk.endLine ? `:${chunk.startLine}` : `:${chunk.startLine}–${chunk.endLine}`),
  );
}

function bar(style, label, value) {
  const filling = el("span.filling");
  // By the object model: a style attribute would be what the page's policy forbids.
  filling.style.width = `${Math.max(0, Math.min(1, value ?? 0)) * 100}%`;
  const element = el(
    `div.bar-row.${style}`,
    { title: value === undefined ? `the ${label} has no part in it` : `${label}: ${value.toFixed(4)}` },
    el("dt", {}, style),
    el("dd", {}, el("span.track", { "aria-hidden": "true" }, filling), el("span.figure", {}, score(value))),
  );
  return { element };
}
