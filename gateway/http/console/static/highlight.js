// Code as coloured pieces, by one pass of one expression a language. No expression of it can be slow: each character is
// taken in one way only. Colours are all that depends on it; the pieces joined are always the text.

const STRING = String.raw`"(?:\\[\s\S]|[^"\\\n])*"?`;
const CHARACTER = String.raw`'(?:\\[\s\S]|[^'\\\n])*'?`;
const TEMPLATE = "`(?:\\\\[\\s\\S]|[^`\\\\])*`?";
const BLOCK_COMMENT = String.raw`/\*[\s\S]*?(?:\*/|(?![\s\S]))`;
const LINE_COMMENT = String.raw`//[^\n]*`;
const HASH_COMMENT = String.raw`#[^\n]*`;
const NUMBER = String.raw`(?<![\w$])(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)\w*`;
const WORD = String.raw`[\p{L}_$][\p{L}\p{N}_$]*`;

const words = (text) => new Set(text.split(" "));

const C_LIKE = {
  comment: `${LINE_COMMENT}|${BLOCK_COMMENT}`,
  string: `${STRING}|${CHARACTER}`,
};
const C_WORDS =
  "auto break case char const continue default do double else enum extern float for goto if inline int long register " +
  "return short signed sizeof static struct switch typedef union unsigned void volatile while bool";
const SCRIPT = {
  comment: `${LINE_COMMENT}|${BLOCK_COMMENT}`,
  string: `${STRING}|${CHARACTER}|${TEMPLATE}`,
  mark: String.raw`@[\w.]+`,
  keywords: words(
    "abstract as async await break case catch class const continue debugger declare default delete do else enum export " +
      "extends finally for from function get if implements import in infer instanceof interface is keyof let namespace " +
      "new of override private protected public readonly return satisfies set static super switch throw try type typeof " +
      "var void while with yield",
  ),
};
const SHELL = { comment: String.raw`(?<!\S)${HASH_COMMENT}`, string: `${STRING}|'[^']*'?`, mark: String.raw`\$\{?\w+\}?` };

const LANGUAGES = {
  python: {
    comment: HASH_COMMENT,
    string:
      String.raw`(?:\b[rRbBfFuU]{1,2})?(?:"""(?:\\[\s\S]|[^\\])*?(?:"""|(?![\s\S]))|'''(?:\\[\s\S]|[^\\])*?(?:'''|(?![\s\S]))` +
      `|${STRING}|${CHARACTER})`,
    mark: String.raw`@[\w.]+`,
    keywords: words(
      "and as assert async await break case class continue def del elif else except finally for from global if import in " +
        "is lambda match nonlocal not or pass raise return try while with yield",
    ),
  },
  javascript: SCRIPT,
  typescript: SCRIPT,
  go: {
    comment: C_LIKE.comment,
    string: `${STRING}|${CHARACTER}|${TEMPLATE}`,
    keywords: words(
      "break case chan const continue default defer else fallthrough for func go goto if import interface map package " +
        "range return select struct switch type var bool byte error float32 float64 int int8 int16 int32 int64 rune " +
        "string uint uint8 uint16 uint32 uint64 uintptr any",
    ),
  },
  rust: {
    comment: C_LIKE.comment,
    string: String.raw`b?r#"[\s\S]*?(?:"#|(?![\s\S]))|b?${STRING}|b?'(?:\\[^\n]{1,10}?|[^'\\\n])'`,
    mark: String.raw`#!?\[[^\]\n]*\]?|'[a-z_]\w*|\b\w+!(?!=)`,
    keywords: words(
      "as async await break const continue crate dyn else enum extern fn for if impl in let loop match mod move mut pub " +
        "ref return static struct super trait type unsafe use where while bool char f32 f64 i8 i16 i32 i64 i128 isize " +
        "str u8 u16 u32 u64 u128 usize",
    ),
  },
  java: {
    ...C_LIKE,
    string: String.raw`"""[\s\S]*?(?:"""|(?![\s\S]))|${STRING}|${CHARACTER}`,
    mark: String.raw`@\w+`,
    keywords: words(
      "abstract assert boolean break byte case catch char class const continue default do double else enum extends final " +
        "finally float for if implements import instanceof int interface long native new package private protected public " +
        "record return sealed short static strictfp super switch synchronized throw throws transient try var void " +
        "volatile while yield permits",
    ),
  },
  c: { ...C_LIKE, mark: String.raw`#(?<=^[ \t]*#)[ \t]*\w+`, keywords: words(C_WORDS) },
  cpp: {
    ...C_LIKE,
    string: String.raw`R"\([\s\S]*?(?:\)"|(?![\s\S]))|${STRING}|(?<!\d)${CHARACTER}`,
    mark: String.raw`#(?<=^[ \t]*#)[ \t]*\w+`,
    keywords: words(
      `${C_WORDS} alignas catch class concept consteval constexpr co_await co_return co_yield decltype delete explicit ` +
        "export final friend mutable namespace new noexcept operator override private protected public requires " +
        "static_assert template throw try typename using virtual",
    ),
  },
  shell: { ...SHELL, keywords: words("case do done elif else esac export fi for function if in local return then until while") },
  sql: {
    comment: String.raw`--[^\n]*|${BLOCK_COMMENT}`,
    string: String.raw`'(?:''|[^'])*'?|${STRING}`,
    ignoresCase: true,
    keywords: words(
      "add all alter and as asc begin between by case check column commit constraint create cross default delete desc " +
        "distinct drop else end exists foreign from full function grant group having if in index inner insert into is " +
        "join key left like limit not null offset on or order outer primary references returning revoke right row select " +
        "set table then to trigger union unique update using values view when where with",
    ),
  },
  json: { comment: LINE_COMMENT, string: STRING, keywords: new Set() },
  yaml: { comment: HASH_COMMENT, string: `${STRING}|'[^'\n]*'?`, keywords: new Set() },
  toml: { comment: HASH_COMMENT, string: `${STRING}|'[^'\n]*'?`, keywords: new Set() },
  ruby: {
    comment: HASH_COMMENT,
    string: `${STRING}|${CHARACTER}`,
    mark: String.raw`[@:]\w+`,
    keywords: words(
      "alias and begin break case class def do else elsif end ensure for if in module next not or redo require rescue retry " +
        "return self super then undef unless until when while yield",
    ),
  },
  html: { comment: String.raw`<!--[\s\S]*?(?:-->|(?![\s\S]))`, string: STRING, mark: String.raw`</?[\w-]+|/?>`, keywords: new Set() },
  css: { comment: BLOCK_COMMENT, string: STRING, mark: String.raw`@[\w-]+|[.#][\w-]+`, keywords: new Set() },
};
// Near enough: comments and strings are what matters.
const ALIKE = {
  java: ["csharp", "kotlin", "php", "protobuf", "scala", "swift"],
  shell: ["dockerfile", "makefile", "perl", "r"],
  toml: ["ini"],
  html: ["xml"],
  ruby: ["elixir", "julia"],
};
for (const [known, others] of Object.entries(ALIKE)) for (const name of others) LANGUAGES[name] = LANGUAGES[known];

const CONSTANTS = words("true false null None True False nil undefined NaN self this cls Self nullptr NULL iota");
const expressions = new Map();

function expressionOf(name, language) {
  let expression = expressions.get(name);
  if (!expression) {
    const parts = [
      `(?<comment>${language.comment})`,
      `(?<string>${language.string})`,
      ...(language.mark ? [`(?<mark>${language.mark})`] : []),
      `(?<number>${NUMBER})`,
      `(?<word>${WORD})`,
    ];
    expression = new RegExp(parts.join("|"), "gmu");
    expressions.set(name, expression);
  }
  return expression;
}

/**
 * Split code into pieces.
 * @param {string} text
 * @param {string} name Of the language, as in `Chunk.language`.
 * @returns {Array<[string, string]>} Class and text; the class is "" for what has no colour. Joined, the texts are `text`.
 */
export function pieces(text, name) {
  // Names come from whoever indexed: "constructor" is no language.
  const language = Object.hasOwn(LANGUAGES, name) ? LANGUAGES[name] : null;
  if (!language) return text ? [["", text]] : [];
  const found = [];
  let at = 0;
  const take = (kind, end) => {
    if (end > at) found.push([kind, text.slice(at, end)]);
    at = end;
  };
  for (const match of text.matchAll(expressionOf(name, language))) {
    if (!match[0]) continue;
    const end = match.index + match[0].length;
    const kind = match.groups.word ? kindOfWord(match[0], text, end, language) : kindOf(match.groups);
    if (!kind) continue;
    take("", match.index);
    take(kind, end);
  }
  take("", text.length);
  return found;
}

function kindOf(groups) {
  return ["comment", "string", "mark", "number"].find((kind) => groups[kind] !== undefined) ?? "";
}

function kindOfWord(word, text, end, language) {
  if (language.keywords.has(language.ignoresCase ? word.toLowerCase() : word)) return "keyword";
  if (CONSTANTS.has(word)) return "constant";
  if (text[end] === "(") return "function";
  return /^\p{Lu}.*\p{Ll}/u.test(word) ? "type" : "";
}
