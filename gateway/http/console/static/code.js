// Code with line numbers and colours.

import { el, freshId, visibleNodes } from "./dom.js";
import { count } from "./format.js";
import { pieces } from "./highlight.js";

// What is longer is shown, without colours: a chunk may have a million characters.
const MAX_COLOURED_CHARS = 200_000;
// Of a line that nobody wrote by hand; what is left out is said.
const MAX_LINE_CHARS = 2000;

/**
 * Show code.
 * @param {{content: string, language: string, startLine: number}} chunk
 * @param {{maxLines?: number, isSought?: boolean}} [options] `maxLines`: more are shown when asked for.
 */
export function codeBlock(chunk, { maxLines = Infinity, isSought = false } = {}) {
  const lines = linesOf(chunk);
  const rows = el("code");
  const showFrom = (start, end) => {
    for (let n = start; n < end; n += 1) rows.append(line(lines[n], chunk.startLine + n));
  };
  // A few lines more than asked for are shown rather than a button for them.
  const shown = lines.length > maxLines + 3 ? maxLines : lines.length;
  showFrom(0, shown);
  const digits = String(chunk.startLine + lines.length - 1).length;
  const block = el(`pre.listing.digits-${digits}${isSought ? ".sought" : ""}`, {
    id: freshId("code"),
    // What scrolls can be reached by keys.
    tabindex: "0",
    role: "group",
    "aria-label": `Code from line ${chunk.startLine} on`,
  }, rows);
  if (shown === lines.length) return block;
  const more = el("button.more", { type: "button", "aria-controls": block.id, "aria-expanded": "false" });
  more.append(`Show all ${lines.length} lines`);
  more.addEventListener("click", () => {
    showFrom(shown, lines.length);
    more.remove();
    block.focus();
  });
  return el("div.listing-with-more", {}, block, more);
}

function line(parts, number) {
  const length = parts.reduce((sum, [, text]) => sum + text.length, 0);
  const content = cut(parts).map(([kind, text]) => (kind ? el(`span.t-${kind}`, {}, visibleNodes(text)) : visibleNodes(text)));
  if (length > MAX_LINE_CHARS) content.push(el("span.soft", {}, ` … ${count(length - MAX_LINE_CHARS)} more characters`));
  // The number is no text: it is neither searched nor copied.
  return el("span.line", { "data-number": number }, content, "\n");
}

/** The pieces of a line up to what is shown of it. */
function cut(parts) {
  let left = MAX_LINE_CHARS;
  return parts.map(([kind, text]) => {
    const shown = text.slice(0, Math.max(0, left));
    left -= text.length;
    return [kind, shown];
  });
}

/** The pieces of each line. */
function linesOf({ content, language }) {
  const text = content.replace(/\r\n?/g, "\n").replace(/\n$/, "");
  const coloured = text.length <= MAX_COLOURED_CHARS ? pieces(text, language) : [["", text]];
  const lines = [[]];
  for (const [kind, piece] of coloured) {
    const [first, ...rest] = piece.split("\n");
    if (first) lines.at(-1).push([kind, first]);
    for (const next of rest) lines.push(next ? [[kind, next]] : []);
  }
  return lines;
}
