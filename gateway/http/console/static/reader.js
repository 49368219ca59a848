// A chunk with what is around it in its file.

import { call } from "./api.js";
import { codeBlock } from "./code.js";
import { button, el, visibleNodes } from "./dom.js";
import { placeOf } from "./hits.js";
import { loadInto } from "./notices.js";

const AROUND = [3, 20];

/**
 * Open a chunk over the page.
 * @param {string} codebaseId
 * @param {string} chunkId
 * @param {Array<Node>} [actions] Buttons beside "Close".
 */
export function openReader(codebaseId, chunkId, actions = []) {
  const left = new AbortController();
  const close = () => dialog.close();
  const title = el("h2", {}, "Chunk");
  const body = el("div.reader-body");
  const dialog = el(
    "dialog.reader",
    { "aria-label": "A chunk and what is around it" },
    el("header.dialog-head", {}, title, el("div.actions", {}, actions, button("Close", close, { autofocus: true }))),
    body,
  );
  const load = (neighborCount) =>
    loadInto(body, left.signal, async () => {
      const reply = await call("IndexService/GetChunk", { codebaseId, chunkId, neighborCount }, left.signal);
      title.replaceChildren(placeOf(reply.chunk.chunk));
      const parts = [...reply.chunksBefore, reply.chunk, ...reply.chunksAfter];
      const isCut = neighborCount < AROUND[1] && parts.length > 2 * neighborCount;
      requestAnimationFrame(() => body.querySelector(".sought")?.scrollIntoView({ block: "center" }));
      return [
        ...parts.map((part) => section(part, part.chunkId === reply.chunk.chunkId)),
        isCut && button("Show more around it", () => load(AROUND[1])),
      ];
    });
  dialog.addEventListener("close", () => {
    left.abort();
    dialog.remove();
  });
  // A click beside it is one on the dialog's own box.
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
  load(AROUND[0]);
  return dialog;
}

function section({ chunk }, isSought) {
  return el(
    "section.part",
    {},
    el("p.soft.small", {}, `${chunk.kind}${chunk.symbol ? " " : ""}`, chunk.symbol && el("code", {}, visibleNodes(chunk.symbol))),
    codeBlock(chunk, { isSought }),
  );
}
