// What is said of a point of the map.

import { button, el, visible } from "./dom.js";
import { score } from "./format.js";
import { placeOf } from "./hits.js";
import { address } from "./router.js";

/** Before a point is chosen. */
export function hint() {
  return [
    el("h2", {}, "A chunk"),
    el("p.soft", {}, "Choose a point to see what it is, and which chunks are most similar to it. Its lines lead to them."),
  ];
}

/**
 * A chosen point and its neighbours.
 * @param {string} codebaseId
 * @param {object[]} points Of a MapCodebaseResponse.
 * @param {number} n Which of them.
 * @param {{open: () => void, go: (n: number) => void}} actions
 */
export function details(codebaseId, points, n, { open, go }) {
  const point = points[n];
  const near = point.neighborIndices.map((other, rank) =>
    el(
      "li",
      {},
      el("button.link", { type: "button", on: { click: () => go(other) } }, placeOf(points[other])),
      el("span.figure.soft", {}, score(point.neighborSimilarities[rank])),
    ),
  );
  return [
    el("h2", {}, placeOf(point)),
    el("p.soft.small", {}, point.symbol && [el("code", {}, visible(point.symbol)), " · "], `${point.kind} · ${visible(point.language)}`),
    el(
      "p.actions",
      {},
      button("Open", open, { kind: "primary" }),
      el("a.button", { href: address("search", { in: codebaseId, like: point.chunkId }) }, "More like this"),
    ),
    el("h3", {}, "Most similar on the map"),
    el("ol.near-list", {}, near),
  ];
}
