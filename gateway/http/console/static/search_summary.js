// How hits came about, and what may be missing.

import { el, visible } from "./dom.js";
import { ago, counted, enumName } from "./format.js";

const REASONS = {
  PARTIAL_REASON_PENDING_CHUNKS: "chunks without a vector yet could not be found",
  PARTIAL_REASON_CANDIDATES_EXHAUSTED: "the index gave no more candidates, though there are more chunks; a narrower filter finds them",
  PARTIAL_REASON_ENCODER_DOWN: "an encoder is down, and the other searched alone",
};
const METHODS = {
  SEARCH_METHOD_EXACT: "every one was compared",
  SEARCH_METHOD_HNSW: "by the HNSW index",
  SEARCH_METHOD_BINARY: "by the index over signs",
};

/** Lines about a SearchResponse. */
export function summary(reply, tookMs) {
  const warnings = [
    ...reply.partialReasons.map((reason) => `Not all: ${REASONS[reason] ?? enumName(reason, "PARTIAL_REASON_")}.`),
    reply.queryTruncated && "The question was longer than an encoder reads, and was cut.",
    reply.missingEncoder && `Scores are those of one encoder: ${reply.missingEncoder} is down.`,
  ].filter(Boolean);
  return [
    el(
      "p",
      {},
      el("strong", {}, reply.hits.length ? counted(reply.hits.length, "hit") : "No hit"),
      el("span.soft", {}, ` among ${counted(reply.searchedChunkCount, "chunk")}, ${METHODS[reply.method] ?? ""}, in ${Math.round(tookMs)} ms`),
    ),
    !reply.hits.length && el("p", {}, "Search with fewer filters, in more codebases, or in other words."),
    warnings.map((text) => el("p.warning", {}, visible(text))),
    reply.revisions.length > 0 && el("p.soft.small", {}, reply.revisions.map(revision).join(" · ")),
  ];
}

/** "mine: main at 4593113afc, 2 days ago". */
function revision({ codebaseId, revision: { branch, commitId, commitTime, outdated, modified } }) {
  const facts = [
    `${codebaseId}: ${visible(branch) || "a commit"} at ${commitId.slice(0, 10)}`,
    commitTime && ago(commitTime),
    modified && "with changes in no commit",
    outdated && "written to since",
  ];
  return facts.filter(Boolean).join(", ");
}

