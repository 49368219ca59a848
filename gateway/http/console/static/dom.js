// Elements are made here alone. What comes from elsewhere goes into them as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
// Not to be seen, or apt to show a text in another order than it has: https://trojansource.codes
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]/g;

/**
 * Make an HTML element.
 * @param {string} tag Such as "button", or with classes: "p.soft.small".
 * @param {object} [props] Attributes; `on` holds listeners by event, `true` sets and `false`, null omit an attribute.
 * @param {...(Node|string|number|null|Array)} children Strings become text.
 */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag.split(".")[0]), tag, props, children);
}

/** Make an SVG element; as `el`. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag.split(".")[0]), tag, props, children);
}

function fill(element, tag, props, children) {
  const classes = tag.split(".").slice(1);
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value" || name === "checked") {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Put children in place of those that an element has. */
export function replace(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** A text in which nothing is hidden: what cannot be seen, or would turn the rest around, is named. */
export function visible(text) {
  return text.replace(HIDDEN, named);
}

/** Text as nodes, with what is hidden in it named and marked. */
export function visibleNodes(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > at) nodes.push(text.slice(at, match.index));
    nodes.push(el("span.hidden-character", { title: "a character that is not shown as it is" }, named(match[0])));
    at = match.index + match[0].length;
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

function named(character) {
  return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** A button. */
export function button(label, onclick, props = {}) {
  const { kind = "", ...rest } = props;
  return el(`button${kind ? `.${kind}` : ""}`, { type: "button", on: { click: onclick }, ...rest }, label);
}

let lastId = 0;

/** An id that no other element has. */
export function freshId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}
